"""How jobs stand by Slurm's own word, and ending them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent_sft.errors import UserError, WorkFailed

SECONDS = 60.0
POLL_SECONDS = 0.5
END_SECONDS = 120.0
"""How long what is ended at once may take to be gone: Slurm gives it half a minute or so (its `KillWait`)."""
FRESH_SECONDS = 3.0
"""Slurm's controller serves a whole cluster: it is asked for all of the user's jobs at once, and no more often."""
HERE = "run it on a machine from which jobs are submitted"
ENDED = {
    "COMPLETED": None,
    "FAILED": None,
    "TIMEOUT": "Slurm killed it at its time limit, before it had saved and ended: raise `time`, or `notice`",
    "NODE_FAIL": "its machine failed",
    "OUT_OF_MEMORY": "it took more memory than it had asked for (`mem`)",
    "PREEMPTED": "Slurm gave its machine to other jobs",
    "DEADLINE": "its deadline has passed",
    "BOOT_FAIL": "its machine did not start",
    "REVOKED": "another cluster took it over",
    "CANCELLED": "ended by scancel",
}
"""States in which a job has ended, and what that is in words where the job cannot have said it itself."""
WORKS = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Standing:
    """How a job stands in Slurm."""

    state: str
    """In Slurm's words, such as `PENDING`; `UNKNOWN` where Slurm does not answer."""
    reason: str = ""
    """Why it waits, in Slurm's words; why Slurm does not answer."""
    nodes: str = ""
    """The machines that it has, or had."""

    @property
    def lives(self) -> bool:
        """Whether it waits or runs."""
        return self.state not in ENDED and self.state != UNKNOWN

    @property
    def waits(self) -> bool:
        """Whether it has no machine."""
        return self.lives and self.state not in WORKS

    @property
    def why(self) -> str | None:
        """Why Slurm ended it; None where it ended by itself, or lives."""
        return ENDED.get(self.state)


class _Known:
    """What Slurm said last of this user's jobs."""

    jobs: dict[str, Standing] = {}  # noqa: RUF012
    at = float("-inf")


def standing(number: str) -> Standing | None:
    """Return how a job stands; None where Slurm knows nothing of it, or not any more.

    Args:
        number: the job's, as sbatch gave it.
    """
    try:
        if time.monotonic() - _Known.at > FRESH_SECONDS:
            _Known.jobs, _Known.at = dict(_queue()), time.monotonic()
        return _Known.jobs.get(number) or _accounted(number)
    except WorkFailed as error:
        return Standing(UNKNOWN, str(error))


def look_again() -> None:
    """Ask Slurm at the next time that something is asked, however short the last one is ago."""
    _Known.at = float("-inf")


def check_can_end() -> None:
    """Refuse to end anything on a machine without Slurm's programs.

    Raises:
        UserError: they are not here.
    """
    if shutil.which("scancel") is None:
        raise UserError("there is no scancel here", fix=HERE)


def end(number: str, *, saving: bool) -> None:
    """End a job.

    Args:
        number: the job's.
        saving: ask what runs to save and to end, by the job's own script; else all of it is ended, or leaves the queue.

    Raises:
        UserError: there is no scancel here.
        WorkFailed: Slurm does not answer.
    """
    check_can_end()
    look_again()
    done = _asked(["scancel", *(["--batch", "--signal=TERM"] if saving else []), number])
    # It may have ended, or gone back into the queue, meanwhile: who waits for its end sees that.
    if done.returncode and not any(word in done.stderr for word in ("Invalid job id", "Job/step already", "pending")):
        raise WorkFailed(f"scancel failed: {done.stderr.strip()}")


def bring_to_end(number: str, is_alive: Callable[[], bool], *, at_once: bool = False) -> None:
    """End a job, and wait until it has ended; one that goes back into the queue meanwhile is taken out of it.

    Args:
        number: the job's.
        is_alive: whether there is anything to wait for.
        at_once: do not wait until what runs has saved.

    Raises:
        UserError: there is no scancel here.
        WorkFailed: Slurm does not answer, or something lives on that was to end at once.
    """
    deadline = time.monotonic() + END_SECONDS
    asked = False
    while is_alive():
        found = standing(number)
        if found is not None and found.state not in ENDED and (found.waits or not asked):
            end(number, saving=not (at_once or found.waits))
            asked = not found.waits
        if at_once and time.monotonic() > deadline:
            raise WorkFailed(f"job {number} of Slurm lives on")
        time.sleep(POLL_SECONDS)


def _queue() -> Sequence[tuple[str, Standing]]:
    """Return this user's jobs: those that wait and run, and those that ended some minutes ago.

    Raises:
        WorkFailed: Slurm does not answer.
    """
    if shutil.which("squeue") is None:
        raise WorkFailed("there is no squeue here")
    form = "--format=%i|%T|%r|%N"
    done = _asked(["squeue", "--noheader", "--states=all", f"--user={os.getuid()}", form])
    if done.returncode:
        raise WorkFailed(f"squeue failed: {done.stderr.strip()}")
    lines = (line.split("|") for line in done.stdout.splitlines())
    return [(number.strip(), Standing(state, reason, nodes)) for number, state, reason, nodes in lines]


def _accounted(number: str) -> Standing | None:
    """Return how a job ended that the queue has forgotten, where the cluster keeps accounts."""
    if shutil.which("sacct") is None:
        return None
    form = ["--noheader", "--allocations", "--parsable2", "--format=State,NodeList"]
    done = _asked(["sacct", f"--jobs={number}", *form])
    if done.returncode or not done.stdout.strip():
        return None
    state, _, nodes = done.stdout.splitlines()[-1].partition("|")
    return Standing(state.split()[0], nodes=nodes)


def _asked(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise WorkFailed(f"{command[0]} does not end: Slurm's controller did not answer for {SECONDS:.0f} s") from error
