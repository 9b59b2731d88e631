"""One process holds a run; a second one is told who."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agent_sft.errors import UserError
from agent_sft.files import unwritable
from agent_sft.runs.processes import is_alive, process_started

CLEANUP_SECONDS = 10.0
"""How long the keeper of a killed process may take to end what that process had started."""

PATIENCE = "AGENT_SFT_LOCK_SECONDS"
"""Variable: how long to wait for a lock that somebody holds. On a shared file system that may be a machine that has
died, of which the file system does not know yet."""


@contextmanager
def run_lock(path: Path, fix: str = "wait for it to end, stop it, or choose another --output-dir") -> Iterator[int]:
    """Hold the lock file `path`; yield its descriptor, for children that must be gone before it is free.

    The lock is the kernel's: it ends with its holder, so there is nothing to clean up after a crash. The
    file's content only says who holds it.

    Args:
        path: the lock file, made if it is missing.
        fix: what the user is told to do when somebody else holds it.

    Raises:
        UserError: another living process holds it, or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        _acquire(descriptor, path, fix)
        _write_holder(descriptor, path, os.getpid(), " ".join(sys.argv))
        yield descriptor
    finally:
        os.close(descriptor)


def hand_over(path: Path, descriptor: int, pid: int, command: str) -> None:
    """Say in a lock's file that another process, which has the lock from this one, holds it now.

    Args:
        path: the lock file.
        descriptor: by which both have it.
        pid: of the other process.
        command: what it is, for people.

    Raises:
        UserError: the file cannot be written.
    """
    _write_holder(descriptor, path, pid, command)


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    pid: int
    started: float
    """When the process was started, which tells it from a later one with the same id."""
    host: str
    command: str


def is_held(path: Path) -> bool:
    """Tell whether somebody holds a lock, a dead process's children that are being ended included."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder(path: Path) -> Holder | None:
    """Return the living process that holds a lock; None where nobody does, or its holder has died.

    Of a process on another machine, that the lock is held is all that can be known.
    """
    if not is_held(path):
        return None
    try:
        value = orjson.loads(path.read_bytes())
        known = Holder(int(value["pid"]), float(value["started"]), str(value["host"]), str(value["command"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    here = known.host == socket.gethostname()
    return known if not here or is_alive(known.pid, known.started) else None


def _write_holder(descriptor: int, path: Path, pid: int, command: str) -> None:
    holder = {"pid": pid, "started": process_started(pid), "host": socket.gethostname(), "command": command}
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, orjson.dumps(holder), 0)
    except OSError as error:
        raise unwritable(path, error) from error


def _acquire(descriptor: int, path: Path, fix: str) -> None:
    deadline = time.monotonic() + CLEANUP_SECONDS
    patient = time.monotonic() + float(os.environ.get(PATIENCE) or 0)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = _holder(descriptor)
            # A dead holder's children are being killed by their keeper, which keeps the lock until they are gone.
            # Where nobody stands in the file yet, somebody may only be looking whether it is held.
            dead = not holder or (
                holder.get("host") == socket.gethostname()
                and not is_alive(int(holder.get("pid", 0)), float(holder.get("started") or 0))
            )
            if time.monotonic() > (deadline if dead else patient):
                raise UserError(
                    f"this run is held by process {holder.get('pid', 'unknown')} on {holder.get('host', 'unknown')}"
                    f" ({holder.get('command', 'unknown command')})",
                    where=str(path.parent),
                    fix=fix,
                ) from None
            time.sleep(0.05)


def _holder(descriptor: int) -> dict[str, Any]:
    try:
        value = orjson.loads(os.pread(descriptor, 65536, 0))
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
