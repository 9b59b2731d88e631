"""Nothing that a run starts outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from agent_sft.runs.processes import Child, Interrupted, catch_signals, is_alive, process_started

# A command that starts three processes: two in sessions of their own, one whose environment tells nothing, as that of
# an engine's workers does, which write their titles over it.
FAMILY = """
import os, subprocess, sys, time
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
for _ in range(2):
    subprocess.Popen(sleeper, start_new_session=True)
subprocess.Popen(sleeper, env={})
print("started", flush=True)
time.sleep(600)
"""

# A process of ours that keeps such a family, says the keeper's id and waits.
OWNER = """
import os, sys, time
from pathlib import Path
from agent_sft.runs.processes import Child
child = Child([sys.executable, "-c", sys.argv[2]], log=Path(sys.argv[1]), env=os.environ)
print(child._keeper.pid, flush=True)
time.sleep(600)
"""


def family_of(keeper: int) -> list[psutil.Process]:
    """Wait until the keeper's command has started its three processes; return all four."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        below = psutil.Process(keeper).children(recursive=True)
        if len(below) == 4:
            return below
        time.sleep(0.05)
    raise AssertionError("the family did not start")


def all_gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=30)[1]


def start_owner(repo: Path, log: Path) -> tuple[subprocess.Popen[str], int]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(log), FAMILY], stdout=subprocess.PIPE, text=True, cwd=repo
    )
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


@pytest.mark.slow
def test_all_is_gone_when_we_are_killed(repo: Path, tmp_path: Path) -> None:
    owner, keeper = start_owner(repo, tmp_path / "log")
    family = [psutil.Process(keeper), *family_of(keeper)]
    owner.kill()
    owner.wait()
    assert all_gone(family)


def test_all_is_gone_when_the_keeper_is_killed(tmp_path: Path) -> None:
    child = Child([sys.executable, "-c", FAMILY], log=tmp_path / "log", env=os.environ)
    keeper = child._keeper.pid
    family = family_of(keeper)
    os.kill(keeper, signal.SIGKILL)
    assert child.wait(60) == 128 + signal.SIGKILL
    assert all_gone(family)


def test_kill_returns_when_nothing_is_left(tmp_path: Path) -> None:
    child = Child([sys.executable, "-c", FAMILY], log=tmp_path / "log", env=os.environ)
    family = family_of(child._keeper.pid)
    child.kill()
    assert not any(process.is_running() for process in family)


def test_what_a_command_leaves_behind_is_ended_with_it(tmp_path: Path) -> None:
    leaves = FAMILY.replace("time.sleep(600)\n", "").rstrip()
    seen = tmp_path / "seen"
    ends = f"{leaves}\nwhile not os.path.exists({str(seen)!r}):\n    time.sleep(0.01)\nsys.exit(7)"
    child = Child([sys.executable, "-c", ends], log=tmp_path / "log", env=os.environ)
    family = family_of(child._keeper.pid)
    seen.touch()
    assert child.wait(60) == 7
    assert all_gone(family)


def test_terminate_lets_a_command_end_its_own_way(tmp_path: Path) -> None:
    polite = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(5)); print('on', flush=True); time.sleep(99)"
    )
    log = tmp_path / "log"
    child = Child([sys.executable, "-c", polite], log=log, env=os.environ)
    deadline = time.monotonic() + 300
    while b"on" not in log.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.02)
    child.terminate()
    assert child.wait(60) == 5


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_exit_status_is_the_commands(tmp_path: Path, code: str, status: int) -> None:
    child = Child([sys.executable, "-c", code], log=tmp_path / "log", env=os.environ)
    assert child.wait(60) == status


def test_output_is_appended_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    Child([sys.executable, "-c", "print('out'); import sys; sys.stderr.write('err')"], log=log, env=os.environ).wait(60)
    assert log.read_text().startswith("before\n")
    assert {"out", "err"} <= set(log.read_text().replace("err", "err\n").splitlines())


def test_a_reused_process_id_is_not_taken_for_the_process() -> None:
    started = process_started(os.getpid())
    assert started is not None
    assert is_alive(os.getpid(), started)
    assert not is_alive(os.getpid(), started - 60)


def test_a_process_that_ended_is_not_alive_before_its_parent_asks() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.PIPE)
    started = psutil.Process(child.pid).create_time()
    assert child.stdout is not None
    child.stdout.read()
    deadline = time.monotonic() + 10
    while is_alive(child.pid, started) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(child.pid, started)
    assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    child.wait()


def test_work_is_left_where_it_can_be_left() -> None:
    with catch_signals() as caught:
        caught.leave()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        with pytest.raises(Interrupted) as left:
            caught.leave()
    assert left.value.exit_code == 143


def test_signals_are_noted_and_the_handlers_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with catch_signals() as caught:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
    assert (caught.exit_code, caught.count) == (143, 2)
    assert signal.getsignal(signal.SIGTERM) is before
