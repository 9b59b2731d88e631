"""Runs one command so that nothing it starts can outlive the process that asked for it.

Standard library only, run as a program: `python -I -S keeper.py COMMAND ...` with a pipe as standard input.

* The keeper is the subreaper of everything below it: a grandchild whose parent dies comes back to the
  keeper and is found again, whatever session or process group it put itself into.
* When the pipe closes, which the kernel does for us when the asking process dies of whatever cause, all
  of it is killed. A line `term` on the pipe passes SIGTERM on to the command's process group.
* When the command ends, what it left behind is killed, and the keeper ends with its exit status
  (128 + signal number if a signal ended it).

There is one for each command, so what it imports is little: its start is most of what it costs (hence no
pathlib and no subprocess).
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # for those who check types alone
    from collections.abc import Callable
    from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def descendants(root: int) -> list[int]:
    """Return the process ids of all living processes below `root`, read from /proc."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stream:  # noqa: PTH123
                # The name in parentheses may hold spaces; the state and the parent's id follow its last one.
                state, parent = stream.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state not in (b"Z", b"X"):
            children.setdefault(int(parent), []).append(int(name))
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def kill_descendants() -> None:
    """Kill all processes below this one and wait until none is left."""
    while not _reaped():
        for pid in descendants(os.getpid()):
            _signal(os.kill, pid, signal.SIGKILL)
        if not _reaped():
            time.sleep(0.01)


def _reaped() -> bool:
    """Take note of what has ended below us; return whether nothing is left, orphans included."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def _signal(how: Callable[[int, int], None], pid: int, number: int) -> None:
    try:  # noqa: SIM105
        how(pid, number)
    except ProcessLookupError:
        pass


def _wait_for(child: int) -> int | None:
    """Return the command's exit status once it has one; reap orphans that came to us meanwhile."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)  # the command is below us until we have seen its end
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if pid == 0:
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
    begun_read, begun_write = os.pipe()
    child = os.fork()
    if child == 0:
        _become(command)
    # Until it has its process group and its signals, one that is passed on to it would be lost.
    os.close(begun_write)
    os.read(begun_read, 1)
    os.close(begun_read)
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
                _signal(os.killpg, child, signal.SIGTERM)


def _become(command: list[str]) -> NoReturn:
    """After the fork: own process group, default signals, death with the keeper, no file of the keeper's; the command.

    The session stays the keeper's: by it, all of this is found where the keeper itself was killed.
    """
    try:
        os.setpgid(0, 0)
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(signum, signal.SIG_DFL)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # locks are held by the keeper alone
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        os.write(2, f"error: {command[0]} cannot be started: {error.strerror}\n".encode())
    finally:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
