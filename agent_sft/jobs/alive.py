"""Whether a job lives: by its lock, and where Slurm has it, by Slurm's word."""

from __future__ import annotations

from pathlib import Path

from agent_sft.engines.slurm.queue import UNKNOWN, Standing, standing
from agent_sft.jobs.record import ENDED, SUBMITTED, Attempt, Spec, attempts_of, lock_of
from agent_sft.runs.lock import is_held

ASKED_TO_END = 143
BY_SIGNAL = range(129, 256)
"""Exit codes of what a signal ended, Slurm's among them."""


def is_alive(run: Path) -> bool:
    """Tell whether the job in a run's directory waits or runs, or something of it is still being ended."""
    if is_held(lock_of(run)):
        return True
    spec, attempts = Spec.read(run), attempts_of(run)
    if spec is None or spec.need.executor != "slurm" or not attempts:
        return False
    return lives_in_slurm(attempts[-1], in_slurm(attempts[-1]))


def in_slurm(attempt: Attempt) -> Standing | None:
    """Return how an attempt stands in Slurm; None where it was not submitted there, or Slurm has nothing to add.

    What ended by itself has ended, whether or not Slurm has cleared it away. What a signal ended may have gone back
    into the queue, and Slurm may know why.
    """
    submitted, ended = attempt.fact(SUBMITTED), attempt.fact(ENDED)
    if submitted is None or (ended is not None and ended["exit_code"] not in BY_SIGNAL):
        return None
    return standing(str(submitted["id"]))


def lives_in_slurm(attempt: Attempt, found: Standing | None) -> bool:
    """Tell whether an attempt whose lock nobody holds lives, by Slurm's word; by what it left where Slurm is silent."""
    if found is None:
        return False
    if found.state == UNKNOWN:
        return attempt.fact(ENDED) is None
    return found.lives
