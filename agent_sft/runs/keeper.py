"""Runs one command so that nothing it starts can outlive the process that asked for it.

Standard library only, run as a program: `python -I -S keeper.py COMMAND ...` with a pipe as standard input.

* The keeper is the subreaper of everything below it: a grandchild whose parent dies comes back to the
  keeper and is found again, whatever session or process group it put itself into.
* When the pipe closes, which the kernel does for us when the asking process dies of whatever cause, all
  of it is killed. A line `term` on the pipe passes SIGTERM on to the command's process group.
* When the command ends, what it left behind is killed, and the keeper ends with its exit status
  (128 + signal number if a signal ended it).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def descendants(root: int) -> list[int]:
    """Return the process ids of all living processes below `root`, read from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The name in parentheses may hold spaces; the state and the parent's id follow its last one.
            state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def kill_descendants() -> None:
    """Kill all processes below this one and wait until none is left."""
    while alive := descendants(os.getpid()):
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap()
        time.sleep(0.01)
    _reap()


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _wait_for(child: subprocess.Popen[bytes]) -> int | None:
    """Return the command's exit status once it has one; reap orphans that came to us meanwhile."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == child.pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if pid == 0:
                return None
    return None


def main(command: list[str]) -> int:
    """Run `command`; return its exit status, or 137 if all was killed because the pipe closed."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_become_command)
    while True:
        ready, _, _ = select.select([0, wake_read], [], [], 5.0)
        if wake_read in ready:
            os.read(wake_read, 4096)
        status = _wait_for(child)
        if status is not None:
            kill_descendants()
            return status
        if 0 in ready:
            line = os.read(0, 64)
            if not line:
                kill_descendants()
                return 137
            if line.strip() == b"term":
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGTERM)


def _become_command() -> None:
    """Between fork and exec: own process group, default signals, and death with the keeper.

    The session stays the keeper's: by it, all of this is found where the keeper itself was killed.
    """
    os.setpgid(0, 0)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
