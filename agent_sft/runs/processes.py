"""Child processes that end with us, however we end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

KEEPER = Path(__file__).with_name("keeper.py")
MARK = "AGENT_SFT_CHILD"
"""Environment variable by which what a child starts can be told from everything else."""


class Child:
    """A command under a keeper (see `keeper.py`): it and all it starts die when this process dies."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str],
        cwd: Path | None = None,
        hold: Sequence[int] = (),
    ) -> None:
        """Start `command` with its output appended to `log`.

        Args:
            command: program and arguments.
            log: file that gets standard output and standard error.
            env: the whole environment of the command.
            cwd: folder to run in; ours when None.
            hold: file descriptors (locks) that stay open until everything the command started is gone.
        """
        self._mark = uuid.uuid4().hex
        with log.open("ab") as stream:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(KEEPER), *command],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env={**env, MARK: self._mark},
                cwd=cwd,
                pass_fds=tuple(hold),
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Return the exit status (128 + signal number after a signal), or None while it runs."""
        status = self._keeper.poll()
        return status if status is None or status >= 0 else self._without_keeper(status)

    def wait(self, timeout: float | None = None) -> int:
        """Wait up to `timeout` seconds for the end and return the exit status."""
        status = self._keeper.wait(timeout)
        return status if status >= 0 else self._without_keeper(status)

    def lost(self) -> str | None:
        """Return None: a machine that goes down takes us with it."""
        return None

    def where(self) -> list[str] | None:
        """Return None: it is here."""
        return None

    def terminate(self) -> None:
        """Pass SIGTERM on to the command's process group."""
        assert self._keeper.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._keeper.stdin.write(b"term\n")
            self._keeper.stdin.flush()

    def kill(self) -> None:
        """Kill the command and all that it started, and wait until none of it is left."""
        assert self._keeper.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._keeper.stdin.close()
        self.wait()

    def _without_keeper(self, status: int) -> int:
        """Do a killed keeper's work: what it kept is in its session, or has the mark in its environment.

        Neither alone tells all: a process may begin a session of its own, or write over its environment, as those do
        that give themselves a title.
        """
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self._keeper.pid or process.environ().get(MARK) == self._mark:
                    process.kill()
        return 128 - status


class Interrupted(Exception):
    """The user stopped the work.

    Args:
        exit_code: 130 after SIGINT, 143 after SIGTERM.
        step: the step whose checkpoint was saved on the way out; None if there was none to save.
    """

    def __init__(self, exit_code: int, step: int | None = None) -> None:
        self.exit_code = exit_code
        self.step = step
        super().__init__(f"stopped at step {step}" if step else "stopped")


class StopSignal:
    """The first SIGINT or SIGTERM that arrived inside `catch_signals`, and how many came in all."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.count = 0

    @property
    def exit_code(self) -> int:
        """130 after SIGINT, 143 after SIGTERM."""
        return 128 + (self.number or 0)

    def leave(self) -> None:
        """Leave the work at a place where it can be left: raise `Interrupted` if a signal came."""
        if self.count:
            raise Interrupted(self.exit_code)

    def pause(self, seconds: float) -> None:
        """Wait so long; leave the work (see `leave`) as soon as a signal comes."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.leave()
            time.sleep(min(0.05, left))


@contextmanager
def catch_signals() -> Iterator[StopSignal]:
    """Note SIGINT and SIGTERM instead of dying of them, so that work can be brought to a good end."""
    caught = StopSignal()

    def note(number: int, _frame: object) -> None:
        caught.number = caught.number or number
        caught.count += 1

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def process_started(pid: int) -> float | None:
    """Return when process `pid` was started (seconds since the epoch), or None if there is none.

    One that has ended, and whose parent has not asked how, is none.
    """
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return float(process.create_time())
    return None


def is_alive(pid: int, started: float) -> bool:
    """Tell whether the process that was started as `pid` at `started` still runs.

    A process id is used again after a while: the start time tells the two apart. It is read from the
    system to a hundredth of a second.
    """
    now = process_started(pid)
    return now is not None and abs(now - started) < 0.05
