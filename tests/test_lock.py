"""Two runs on one output directory: the second is told who holds it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent_sft.errors import UserError
from agent_sft.runs.lock import PATIENCE, run_lock

HOLDER = """
import sys, time
from pathlib import Path
from agent_sft.runs.lock import PATIENCE, run_lock
with run_lock(Path(sys.argv[1])) as descriptor:
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(repo: Path, path: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True, cwd=repo)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_the_second_is_told_who_holds_it(repo: Path, tmp_path: Path) -> None:
    holder = start_holder(repo, tmp_path / ".lock")
    with pytest.raises(UserError, match=f"held by process {holder.pid} on "), run_lock(tmp_path / ".lock"):
        pass
    holder.kill()
    holder.wait()


def test_a_killed_holder_leaves_no_lock(repo: Path, tmp_path: Path) -> None:
    holder = start_holder(repo, tmp_path / ".lock")
    holder.kill()
    holder.wait()
    with run_lock(tmp_path / ".lock"):
        pass


def test_a_lock_that_a_dead_machine_may_hold_is_waited_for_where_that_is_asked(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = start_holder(repo, tmp_path / ".lock")
    monkeypatch.setenv(PATIENCE, "300")
    threading.Timer(0.5, holder.kill).start()
    with run_lock(tmp_path / ".lock"):
        assert holder.wait() != 0


def test_the_lock_waits_for_a_killed_holders_children(tmp_path: Path) -> None:
    code = "import sys, time; time.sleep(1.5)"
    began = time.monotonic()
    with run_lock(tmp_path / ".lock") as descriptor:
        child = subprocess.Popen([sys.executable, "-c", code], pass_fds=[descriptor])
        # As after a crash: the file names a process that is gone, while its child still holds the lock.
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b'{"pid": 0, "started": 0, "host": "%s"}' % os.uname().nodename.encode(), 0)
    with run_lock(tmp_path / ".lock"):
        assert child.poll() is not None or time.monotonic() - began > 1
    child.wait()


def test_a_damaged_lock_file_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(b"\x00garbage")
    with run_lock(tmp_path / ".lock"):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()
