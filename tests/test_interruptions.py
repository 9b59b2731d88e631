"""A run that is killed, at whatever moment, ends where an undisturbed one ends; nothing is left running."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from agent_sft.engines.llamafactory.checkpoints import find_checkpoints
from tests.forks import unforked
from tests.serving import all_gone, family_of
from tests.support import QUICK, final_step, loaded_examples, processes_of, short_data

pytestmark = pytest.mark.slow

Moment = Callable[[Path, set[Path]], bool]
"""Whether it has come, told by a run's directory, which the run has locked, and what was in it before this attempt."""

STEPS = 60
OPTIONS = (*QUICK, "--epochs", "5", "--checkpoint-interval", "3")


def start(out: Path, *, forked: bool = False) -> subprocess.Popen[str]:
    data = short_data(out.parent)
    command = [sys.executable, "-P", "-m", "agent_sft", "sft", str(data), *OPTIONS, "--output-dir", str(out)]
    env = None if forked else unforked()
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def exists(pattern: str) -> Moment:
    """When there is a file of this name; at once where an earlier attempt came so far before it was killed."""
    return lambda out, _: any(out.glob(pattern))


def exists_anew(pattern: str) -> Moment:
    """When the attempt that runs now has made a file of this name."""
    return lambda out, earlier: any(path not in earlier for path in out.glob(pattern))


begun = exists_anew("attempts/*/training.json")
"""When its trainer is about to do its first step."""
saved_again = exists_anew("checkpoint-*/model.safetensors")
"""When a checkpoint's weights are there, while its other files are being written."""


MOMENTS: tuple[tuple[Moment, float, bool], ...] = (
    (exists(".lock"), 0, False),
    (exists("stages/process.json"), 0, False),
    (exists("data/*.jsonl"), 0, False),
    (exists("stages/base.json"), 0.1, False),
    (exists_anew("attempts/*/train.log"), 2.0, False),
    (begun, 0.05, True),
    (saved_again, 0, True),
    (saved_again, 0.01, False),
    (saved_again, 0.1, True),
    (exists("trainer_state.json"), 0, True),  # the last step is done, the loss is about to be drawn
)
"""When the run is killed, up to how many seconds later, by chance, and whether its trainer is forked as in a sweep."""


def wait_until(run: subprocess.Popen[str], moment: Moment, out: Path, earlier: set[Path]) -> None:
    """Wait until a run has locked its directory and a moment has come, or the run has ended."""
    deadline = time.monotonic() + 300
    while run.poll() is None and not (locked(run, out) and moment(out, earlier)) and time.monotonic() < deadline:
        time.sleep(0.005)


def locked(run: subprocess.Popen[str], out: Path) -> bool:
    """Tell whether it is this run that the lock's file names."""
    lock = out / ".lock"
    return lock.is_file() and f'"pid":{run.pid},' in lock.read_text()


def kill(run: subprocess.Popen[str], out: Path, forked: list[psutil.Process]) -> None:
    """Kill our process alone, as the system would, and see all that it started go with it, or had forked for it."""
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 10
    while (left := processes_of(out)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left
    assert all_gone(forked)


def test_killed_ten_times_at_different_moments_it_ends_at_the_same_step(tmp_path: Path) -> None:
    out = tmp_path / "out"
    chance = random.Random(20)
    for number, (moment, later, forked) in enumerate(MOMENTS, start=1):
        earlier = set(out.rglob("*"))
        run = start(out, forked=forked)
        if forked:
            wait_until(run, begun, out, earlier)
        family = family_of(run.pid) if forked else []
        wait_until(run, moment, out, earlier)
        time.sleep(chance.random() * later)
        kill(run, out, family)
        assert run.returncode == -signal.SIGKILL, f"it had ended before it was killed for the {number}. time"
    # Beside what the kills left: a checkpoint whose last file is missing.
    newest = find_checkpoints(out, 1)[-1]
    (newest.path / "trainer_state.json").unlink(missing_ok=True)
    run = start(out, forked=True)
    printed, _ = run.communicate(timeout=600)
    assert run.returncode == 0, printed
    assert f"{newest.path.name} is incomplete: " in printed
    assert f"set aside in {out / 'set-aside'}" in printed
    assert final_step(out) == STEPS
    assert set(loaded_examples(out)) == {24}
    assert all(checkpoint.missing is None for checkpoint in find_checkpoints(out, 1))
    assert processes_of(out) == []


def test_a_second_run_is_told_who_holds_the_directory_and_sigterm_ends_the_first_with_143(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = start(out, forked=True)
    wait_until(first, exists(".lock"), out, set())
    second = start(out, forked=True)
    printed, _ = second.communicate(timeout=600)
    assert second.returncode == 2
    assert f"held by process {first.pid}" in printed
    wait_until(first, saved_again, out, set())
    first.terminate()
    printed, _ = first.communicate(timeout=600)
    assert first.returncode == 143, printed
    assert processes_of(out) == []
