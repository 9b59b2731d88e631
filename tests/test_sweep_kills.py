"""A sweep that is killed, at whatever moment, ends where an undisturbed one ends, and leaves nothing behind."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from agent_sft.report.sweep.record import read_record
from agent_sft.runs.lock import is_held
from tests.conftest import ROOT
from tests.serving import all_gone, command_of, family_of
from tests.sweep_jobs import attempts, pairs, states


def start(folder: Path, seconds: float = 0.3) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.sweep_jobs", str(folder), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_a_driver_killed_ten_times_goes_on(tmp_path: Path) -> None:
    chance = random.Random(3)
    out = pairs(tmp_path, 0.3).out
    killed = 0
    while killed < 10:
        run = start(tmp_path)
        deadline = time.monotonic() + chance.uniform(0.2, 2.5)
        while run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if run.poll() is not None:
            assert run.returncode == 0, run.communicate()[0]
            for path in (tmp_path / "made").iterdir():
                path.unlink()
            continue
        family = family_of(run.pid)
        run.kill()
        run.communicate()
        killed += 1
        assert all_gone(family)
        deadline = time.monotonic() + 60
        while is_held(out / ".lock"):  # by what was started between our look and the kill
            assert time.monotonic() < deadline
            time.sleep(0.01)
    run = start(tmp_path)
    printed, _ = run.communicate(timeout=120)
    assert run.returncode == 0, printed
    record = read_record(out)
    assert set(states(record).values()) == {"done"}
    assert record.finished is not None


@pytest.mark.slow
def test_what_dies_below_the_driver_is_tried_again(tmp_path: Path) -> None:
    run = start(tmp_path, 1.0)
    killed: set[int] = set()
    deadline = time.monotonic() + 60
    while len(killed) < 2 and time.monotonic() < deadline:
        for process in family_of(run.pid):
            mine = "made train/" in command_of(process) and "keeper.py" not in command_of(process)
            if mine and process.pid not in killed and len(killed) < 2:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
                    killed.add(process.pid)
        time.sleep(0.02)
    printed, _ = run.communicate(timeout=120)
    assert run.returncode == 0, printed
    record = read_record(pairs(tmp_path, 1.0).out)
    assert set(states(record).values()) == {"done"}
    assert sum(attempts(record).values()) == len(record.jobs) + 2


@pytest.mark.slow
def test_trainings_and_evaluations_killed_give_the_same_numbers(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "benchmarks/kill_sweep.py", "--count", "3", "--without-server"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills in" in done.stdout
    assert "numbers of the undisturbed one; nothing was left" in done.stdout
