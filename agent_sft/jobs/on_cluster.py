"""A job's command on a Ray cluster: its supervisor stays here, and holds it on a leash."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from agent_sft.files import write_json
from agent_sft.jobs.record import STARTED, Attempt, Need, Spec
from agent_sft.runs.directory import now
from agent_sft.runs.processes import StopSignal
from agent_sft.runs.queue import Taken
from agent_sft.sweep.executor import Handle
from agent_sft.sweep.judging import MOST_LOSSES
from agent_sft.sweep.ray_executor import RayExecutor
from agent_sft.sweep.slots import ANY, Share

POLL_SECONDS = 0.1
AGAIN_SECONDS = 5.0


def run_on_cluster(
    spec: Spec, attempt: Attempt, command: Sequence[str], hold: Sequence[int], _taken: Taken, stop: StopSignal
) -> int:
    """Run a job's command on the cluster that it was submitted to, again where it loses its machine.

    Args:
        spec: the job.
        attempt: the one that this is.
        command: program and arguments.
        hold: the job's lock: it is held until nothing of the job is left on the cluster.
        stop: on the first signal the command saves and ends, on the second it is ended.

    Returns:
        The exit code.

    Raises:
        UserError: the cluster cannot be joined.
        WorkFailed: it has not answered for long.
    """
    os.chdir(spec.folder)

    def say(text: str) -> None:
        with attempt.log.open("a", encoding="utf-8") as log:
            log.write(f"{text}\n")

    (lock,) = hold
    with RayExecutor(spec.need.address or "auto", attempt.path, lock, say) as cluster:
        for losses in range(MOST_LOSSES + 1):
            while not cluster.capacity().nodes:
                stop.pause(POLL_SECONDS)
            handle = cluster.submit(spec.id, command, share_of(spec.need), {}, attempt.log)
            status = _ended(handle, attempt.path, stop)
            why = handle.lost()
            if why is None or stop.count or losses == MOST_LOSSES:
                break
            say(f"{why}; it goes on elsewhere")
            stop.pause(AGAIN_SECONDS)
    return status


def share_of(need: Need) -> Share:
    """Return what a job has of a cluster, on whichever machines have it."""
    gpus = tuple(range(need.count * need.nodes)) if need.gpus else ()
    return Share(gpus, 0 if need.gpus else need.count, on_gpus=need.gpus, nodes=(ANY,) * need.nodes)


def _ended(handle: Handle, attempt: Path, stop: StopSignal) -> int:
    """Wait until a command has ended; return its exit status."""
    asked, placed = 0, False
    while (status := handle.poll()) is None:
        if not placed and (words := handle.where()) is not None:
            placed = True
            write_json(attempt / STARTED, {"at": now(), "host": socket.gethostname(), "slots": words})
        if stop.count > asked:
            asked = stop.count
            handle.terminate() if asked == 1 else handle.kill()
        time.sleep(POLL_SECONDS)
    return status
