"""The process that a job has of its own: waits for its slots, runs its command, and writes down how it ended.

Run as a program. It ends with its job, and needs nobody: no terminal, no daemon, nobody who waits. What it starts dies
with it, however it dies, and only then are the job's lock and its slots free.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import write_json
from agent_sft.jobs.record import ENDED, STARTED, Attempt, Need, Spec, attempts_of, lock_of, record_of
from agent_sft.runs.directory import now
from agent_sft.runs.lock import hand_over
from agent_sft.runs.processes import Child, Interrupted, StopSignal, catch_signals
from agent_sft.runs.queue import Taken, Ticket, slots

POLL_SECONDS = 0.1
NAME = "supervisor"
"""What the holder of a job's lock is called, once it is one."""


CarryOut = Callable[[Spec, Attempt, Sequence[str], list[int], Taken, StopSignal], int]
"""Runs a job's command; returns its exit code."""


def supervise(
    run: Path,
    command: Sequence[str],
    lock: int,
    share: Callable[[Need, StopSignal], AbstractContextManager[Taken]],
    carry_out: CarryOut,
) -> int:
    """Bring the newest attempt of a job to its end.

    Args:
        run: the run's directory.
        command: program and arguments.
        lock: descriptor of the job's lock, which is taken already; closed at the end.
        share: waits for the job's share of the machine and holds it.
        carry_out: runs the command in it.

    Returns:
        The exit code: the command's, or that of the signal that ended it.
    """
    spec, attempt = Spec.read(run), attempts_of(run)[-1]
    assert spec is not None
    with catch_signals() as stop:
        try:
            with share(spec.need, stop) as taken:
                stop.leave()
                code = carry_out(spec, attempt, command, [lock, *taken.descriptors], taken, stop)
                write_end(run, attempt, code)
        except Interrupted as stopped:
            code = stopped.exit_code
            write_end(run, attempt, code)
        except (OSError, UserError, WorkFailed) as error:
            with attempt.log.open("a", encoding="utf-8") as log:
                log.write(f"error: the job cannot be started: {error}\n")
            code = WorkFailed.exit_code if isinstance(error, WorkFailed) else UserError.exit_code
            write_end(run, attempt, code)
        os.close(lock)  # with the slots: what has none is not told to be running
    return code


def write_end(run: Path, attempt: Attempt, code: int) -> None:
    """Write down how an attempt ended."""
    write_json(attempt.path / ENDED, {"at": now(), "exit_code": code})
    record_of(run).record("job ended", attempt=attempt.number, exit_code=code)


def run_here(
    spec: Spec, attempt: Attempt, command: Sequence[str], hold: list[int], taken: Taken, stop: StopSignal
) -> int:
    """Run the command; on the first signal ask it to save and end, on the second end it."""
    started = {"at": now(), "host": socket.gethostname(), "slots": list(taken.names)}
    write_json(attempt.path / STARTED, started)
    environment = {**os.environ, **_variables(spec.need, taken, os.environ)}
    child = Child(command, log=attempt.log, env=environment, cwd=Path(spec.folder), hold=hold)
    asked = 0
    try:
        while (code := child.poll()) is None:
            if stop.count > asked:
                asked = stop.count
                child.terminate() if asked == 1 else child.kill()
            time.sleep(POLL_SECONDS)
    finally:
        child.kill()
    return code


def _variables(need: Need, taken: Taken, given: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which a job keeps to its share of the machine."""
    if need.gpus:
        return {"CUDA_VISIBLE_DEVICES": ",".join(taken.names)}
    if len(need.slots) > 1 and "OMP_NUM_THREADS" not in given:
        # Several jobs with a thread for each processor wait for each other most of the time.
        return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) * need.count // len(need.slots)))}
    return {}


def main(arguments: Sequence[str]) -> int:
    """Supervise a job in a session of its own.

    Args:
        arguments: the run's directory; the descriptor of its lock; the path and the descriptor of its place in the
            queue, both empty where it runs on a cluster; the command. The descriptors were passed on by who submitted
            the job.
    """
    run, lock, place, ticket, *command = arguments
    if pid := os.fork():
        # Who submitted the job need neither wait for its end nor live as long.
        hand_over(lock_of(Path(run)), int(lock), pid, f"{NAME} of {run}")
        return 0
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if not place:
        from agent_sft.jobs.on_cluster import run_on_cluster

        return supervise(Path(run), command, int(lock), lambda _need, _stop: nullcontext(Taken((), ())), run_on_cluster)
    queued = Ticket(Path(place), int(ticket))
    return supervise(
        Path(run), command, int(lock), lambda need, stop: slots(queued, need.slots, need.count, stop), run_here
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
