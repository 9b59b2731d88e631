"""A run that is killed, at whatever moment, ends where an undisturbed one ends; nothing is left running."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_sft.engines.llamafactory.checkpoints import find_checkpoints
from tests.support import QUICK, final_step, loaded_examples, processes_of, short_data

pytestmark = pytest.mark.slow

STEPS = 60
OPTIONS = (*QUICK, "--epochs", "5", "--checkpoint-interval", "3")


def start(out: Path) -> subprocess.Popen[str]:
    data = short_data(out.parent)
    command = [sys.executable, "-P", "-m", "agent_sft", "sft", str(data), *OPTIONS, "--output-dir", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def saved_steps(out: Path) -> int:
    return max((checkpoint.step for checkpoint in find_checkpoints(out, 1)), default=0)


def wait_until(run: subprocess.Popen[str], condition: object, out: Path) -> None:
    """Wait until `condition(out)` holds or the run has ended."""
    assert callable(condition)
    deadline = time.monotonic() + 300
    while run.poll() is None and not condition(out) and time.monotonic() < deadline:
        time.sleep(0.002)


def kill(run: subprocess.Popen[str], out: Path) -> None:
    """Kill our process alone, as the system would, and see all that it started go with it."""
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 10
    while (left := processes_of(out)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left


def test_killed_ten_times_it_ends_at_the_same_step(tmp_path: Path) -> None:
    out = tmp_path / "out"
    chance = random.Random(20)
    for attempt in range(10):
        run = start(out)
        before = saved_steps(out)
        if attempt % 2:
            # In the middle of a save: the folder is there, its last file is not.
            wait_until(run, lambda place, before=before: saved_steps(place) > before, out)
        else:
            wait_until(run, lambda place, before=before: saved_steps(place) > before or chance.random() < 0.0005, out)
            time.sleep(chance.random() * 0.2)
        kill(run, out)
    run = start(out)
    printed, _ = run.communicate(timeout=600)
    assert run.returncode == 0, printed
    assert final_step(out) == STEPS
    assert set(loaded_examples(out)) == {24}
    assert all(checkpoint.missing is None for checkpoint in find_checkpoints(out, 1))
    assert processes_of(out) == []


def test_a_partial_checkpoint_is_set_aside_and_said(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = start(out)
    wait_until(run, lambda place: saved_steps(place) >= 6, out)
    kill(run, out)
    newest = find_checkpoints(out, 1)[-1]
    (newest.path / "trainer_state.json").unlink(missing_ok=True)
    run = start(out)
    printed, _ = run.communicate(timeout=600)
    assert run.returncode == 0, printed
    assert f"{newest.path.name} is incomplete: " in printed
    assert f"set aside in {out / 'set-aside'}" in printed
    assert final_step(out) == STEPS


def test_a_second_run_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = start(out)
    wait_until(first, lambda place: (place / ".lock").is_file() and (place / ".lock").stat().st_size > 0, out)
    second = start(out)
    printed, _ = second.communicate(timeout=600)
    assert second.returncode == 2
    assert f"held by process {first.pid}" in printed
    kill(first, out)


def test_sigterm_ends_everything_with_143(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = start(out)
    wait_until(run, lambda place: saved_steps(place) >= 2, out)
    run.terminate()
    printed, _ = run.communicate(timeout=600)
    assert run.returncode == 143, printed
    assert processes_of(out) == []
