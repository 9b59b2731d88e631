"""The command line: help at once, unknown words named, exit codes as documented."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import RunCli
from tests.support import heed_interrupts


def test_help_lists_every_command(run_cli: RunCli) -> None:
    shown = run_cli("--help")
    assert shown.returncode == 0
    for name in ("sft", "prepare", "merge", "serve", "doctor", "setup"):
        assert f"\n  {name} " in shown.stdout


def test_each_command_has_help(call_cli: RunCli) -> None:
    for name in ("sft", "prepare", "merge", "serve", "doctor", "setup"):
        shown = call_cli(name, "--help")
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.startswith("Usage: agent-sft")


def test_an_unknown_command_names_the_nearest(call_cli: RunCli) -> None:
    done = call_cli("doctr")
    assert (done.returncode, "did you mean 'doctor'?" in done.stderr) == (2, True)


def test_a_missing_argument_is_a_wrong_request(call_cli: RunCli) -> None:
    assert call_cli("sft").returncode == 2


def _write_end(pipe: Path) -> int | None:
    """Open a pipe for writing; None while nobody reads from it."""
    try:
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None
    os.set_blocking(descriptor, True)
    return descriptor


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "process", "rows", "--format", "sharegpt", "--pipeline", "pipeline.yaml", "--output", "out/a.jsonl"],
        ["prepare", "--input", "rows", "--output-dir", "out"],
        ["merge", "--input", "rows", "--output", "out.json"],
    ],
    ids=["process", "prepare", "merge"],
)
def test_stopped_in_the_middle_of_a_file_nothing_half_written_stays(
    tmp_path: Path, arguments: list[str], number: int, code: int
) -> None:
    (tmp_path / "pipeline.yaml").write_text("transforms: [merge_turns]\n")
    os.mkfifo(tmp_path / "rows")
    before = sorted(tmp_path.rglob("*"))
    row = b'{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}\n'
    command = subprocess.Popen(
        [sys.executable, "-P", "-m", "agent_sft", *arguments],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    while (opened := _write_end(tmp_path / "rows")) is None:
        assert command.poll() is None, command.communicate()[1]
        time.sleep(0.01)
    with os.fdopen(opened, "wb", buffering=0) as pipe:
        pipe.write(row * 5000)
        deadline = time.monotonic() + 300
        while not list(tmp_path.rglob("*.tmp")):
            assert time.monotonic() < deadline, "it never began to write"
            time.sleep(0.01)
        command.send_signal(number)
    # A signal that comes right before a reading is acted upon when that comes back: here, at the pipe's end.
    _, said = command.communicate(timeout=600)
    assert command.returncode == code, said
    assert said.strip().endswith("stopped") and "Traceback" not in said
    assert sorted(tmp_path.rglob("*")) == before
