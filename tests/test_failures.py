"""A failed training says what to do where the cause is a known one."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sft.engines.llamafactory.failures import remedy


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "--batch-size 1"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("RuntimeError: The server socket has failed to listen: EADDRINUSE", "--master-port"),
        ("RuntimeError: Unable to find ninja in PATH", "g++"),
        ("exitcode  : -9 (pid: 4242)", "memory ran out"),
    ],
)
def test_known_causes(tmp_path: Path, line: str, word: str) -> None:
    (tmp_path / "log").write_text(f"Traceback ...\n{line}\nmore\n")
    assert word in (remedy(tmp_path / "log", 1) or "")


def test_a_trainer_killed_by_the_system(tmp_path: Path) -> None:
    assert "memory ran out" in (remedy(tmp_path / "absent", 137) or "")


def test_an_unknown_cause_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("ValueError: something else\n")
    assert remedy(tmp_path / "log", 1) is None
