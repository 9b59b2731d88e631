"""A training that is killed while torch compiles for it leaves nothing that another one waits for."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent_sft.engines.deepspeed.extensions import held_extensions

VERSIONS = {"torch": "2.13.0", "deepspeed": "0.19.2"}

COMPILING = """
import importlib.util, runpy, sys, time
from pathlib import Path
torch = Path(importlib.util.find_spec("torch").submodule_search_locations[0])
baton = runpy.run_path(str(torch / "utils" / "file_baton.py"))["FileBaton"](sys.argv[1])
print(baton.try_acquire(), flush=True)
time.sleep(60)
"""
"""Takes torch's own lock, as it does before it compiles."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def folder_of(variables: dict[str, str]) -> Path:
    return Path(variables["TORCH_EXTENSIONS_DIR"])


def compiling(python: Path, folder: Path, hold: list[int]) -> subprocess.Popen[str]:
    """Start a process that compiles in a folder; return once it has torch's lock."""
    lock = folder / "cpu_adam" / "lock"
    lock.parent.mkdir(exist_ok=True)
    process = subprocess.Popen([python, "-c", COMPILING, str(lock)], pass_fds=hold, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def test_what_is_compiled_is_found_again_and_trainings_at_once_are_kept_apart() -> None:
    python = Path(sys.executable)
    with ExitStack() as stack:
        first, second = (folder_of(stack.enter_context(held_extensions(python, VERSIONS))[0]) for _ in range(2))
        (first / "cpu_adam").mkdir()
    assert first != second
    with held_extensions(python, VERSIONS) as (variables, _):
        assert folder_of(variables) == first and (first / "cpu_adam").is_dir()
        with held_extensions(python, {**VERSIONS, "torch": "2.14.0"}) as (others, _):
            assert folder_of(others).parent != first.parent


def test_a_lock_of_torch_is_respected_while_its_holder_lives_and_removed_when_it_is_dead(train_python: Path) -> None:
    with held_extensions(train_python, VERSIONS) as (variables, hold):
        folder = folder_of(variables)
        killed = compiling(train_python, folder, hold)
    # As after our own death: what compiles is left, and holds the folder.
    with held_extensions(train_python, VERSIONS) as (variables, _):
        assert folder_of(variables) != folder
    assert (folder / "cpu_adam" / "lock").exists()
    killed.kill()
    killed.communicate()
    with held_extensions(train_python, VERSIONS) as (variables, hold):
        assert folder_of(variables) == folder
        again = compiling(train_python, folder, hold)
        again.kill()
        again.communicate()


def test_a_folder_of_the_users_choice_is_used(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(place / "fast disk"))
    with held_extensions(Path(sys.executable), VERSIONS) as (variables, _):
        assert folder_of(variables).is_relative_to(place / "fast disk")


def test_a_cache_that_cannot_be_written_does_not_stop_the_training(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "file"))
    with held_extensions(Path(sys.executable), VERSIONS) as held:
        assert held == ({}, [])
