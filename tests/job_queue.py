"""Program of the tests: many processes that wait for two slots, and what came of it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from agent_sft.runs.processes import Interrupted, catch_signals
from agent_sft.runs.queue import Ticket, join_queue, slots

SLOTS = ("slot-0", "slot-1")


def note(path: Path, word: str) -> None:
    """Add a word to a file that others write too."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{word}\n".encode())
    os.close(descriptor)


def work(number: int, ticket: Ticket, path: Path) -> None:
    """Wait for a slot, hold it for a moment; the third that gets one keeps it until it is killed."""
    try:
        with catch_signals() as stop, slots(ticket, SLOTS, 1, stop):
            note(path, f"+{number}")
            if number == 2:
                signal.pause()
            note(path, f"-{number}")
    except Interrupted:
        note(path, f"interrupted {number}")


def main(path: Path, count: int) -> None:
    """Start all, kill the third when it has its slot, tell two of those that wait to give up: one well, one not."""
    pids = []
    gate, opened = os.pipe()
    for number in range(count):
        ticket = join_queue(str(number))
        if not (pid := os.fork()):
            os.close(opened)
            os.read(gate, 1)
            work(number, ticket, path)
            os._exit(0)
        os.close(ticket.descriptor)
        pids.append(pid)
    os.kill(pids[count - 1], signal.SIGKILL)
    os.close(opened)
    while "+2" not in (path.read_text().split() if path.exists() else ()):
        time.sleep(0.01)
    os.kill(pids[2], signal.SIGKILL)
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    sys.stdout.write(json.dumps(statuses))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
