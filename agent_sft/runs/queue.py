"""A machine's slots, and the queue of those that wait for them: first come, first served.

Everything is a lock of the kernel, so that whatever becomes of a process, its place in the queue and its slots are
free when it and all that it started are gone. In `slots/HOST/` of the user's state folder:

queue.lock     held for a moment, while somebody joins the queue
queue/NUMBER   the place of one that waits, locked by it; it says who
NAME           one slot, locked by who has it
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_sft.files import unwritable
from agent_sft.runs.lock import is_held
from agent_sft.runs.places import state_folder
from agent_sft.runs.processes import StopSignal

POLL_SECONDS = 0.05
"""Time between two looks of who is next; of who comes later, so many times as long as there are others before."""
LONGEST_SECONDS = 1.0


@dataclass(frozen=True)
class Ticket:
    """A place in the queue."""

    path: Path
    descriptor: int
    """Open as long as the place is kept."""

    def give_up(self) -> None:
        """Leave the queue."""
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


@dataclass(frozen=True)
class Taken:
    """Slots that are ours."""

    names: tuple[str, ...]
    descriptors: tuple[int, ...]
    """Whoever has one of these open has the slot: they are passed on to what runs in it."""


def slots_folder() -> Path:
    """Return the folder with the slots and the queue of this machine."""
    return state_folder() / "slots" / socket.gethostname()


def join_queue(who: str) -> Ticket:
    """Join the queue at its end.

    Args:
        who: joins, for people.

    Raises:
        UserError: the queue's folder cannot be written.
    """
    folder = slots_folder()
    places = folder / "queue"
    try:
        places.mkdir(parents=True, exist_ok=True)
        with (folder / "queue.lock").open("a") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            last = max((int(path.name) for path in _places(places)), default=0)
            for path in _places(places):
                if not is_held(path):
                    path.unlink(missing_ok=True)
            path = places / f"{last + 1:012d}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, who.encode())
    except OSError as error:
        raise unwritable(places, error) from error
    return Ticket(path, descriptor)


def waiting() -> list[str]:
    """Return who waits, in order."""
    places = _places(slots_folder() / "queue")
    found = []
    for path in places:
        with contextlib.suppress(OSError):  # it may leave the queue now
            if is_held(path):
                found.append(path.read_text(encoding="utf-8"))
    return found


@contextlib.contextmanager
def slots(ticket: Ticket, names: Sequence[str], count: int, stop: StopSignal) -> Iterator[Taken]:
    """Wait until those before us have their slots and enough of ours are free; hold them within the block.

    Args:
        ticket: our place in the queue, which is given up in any case.
        names: the slots that will do.
        count: how many of them are needed.
        stop: the signals.

    Raises:
        Interrupted: a signal came while we waited.
        UserError: a slot's file cannot be written.
    """
    held: dict[str, int] = {}
    try:
        try:
            while before := _before(ticket):
                stop.pause(min(LONGEST_SECONDS, POLL_SECONDS * before))
            while len(held) < count:
                held |= _free(names, count, held)
                if len(held) < count:
                    stop.pause(POLL_SECONDS)
        finally:
            ticket.give_up()
        yield Taken(tuple(held), tuple(held.values()))
    finally:
        for descriptor in held.values():
            os.close(descriptor)


def _free(names: Sequence[str], count: int, held: dict[str, int]) -> dict[str, int]:
    """Take the slots that are free of those that we do not have, no more than we need."""
    taken: dict[str, int] = {}
    folder = slots_folder()
    for name in names:
        if name in held or len(held) + len(taken) == count:
            continue
        try:
            descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise unwritable(folder / name, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            taken[name] = descriptor
    return taken


def _before(ticket: Ticket) -> int:
    """Return how many are in the queue before us; 0 where none of them lives."""
    before = [path for path in _places(ticket.path.parent) if path.name < ticket.path.name]
    return len(before) if any(is_held(path) for path in reversed(before)) else 0


def _places(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name.isdigit())
    except FileNotFoundError:
        return []
