"""Successive halving: all candidates a little way, the best of them further, one to the end.

Every training has the learning-rate schedule of its whole length from its first step on, is stopped with a whole
checkpoint at a rung, and goes on from it if it is among the best third there (Li et al. 2020, "A System for Massively
Parallel Hyperparameter Tuning", whose trainings are all equally long here, so that a rung is waited for as a whole).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agent_sft.report.plan.record import Candidate

KEPT = 3
"""One of so many goes on from each rung."""
FEWEST_STEPS = 10
"""Of the first rung: fewer tell nothing."""


@dataclass(frozen=True)
class Rung:
    """A step of the halving."""

    share: float | None
    """Of each training's steps; None for all of them."""
    candidates: int
    """How many are trained so far."""

    def step(self, candidate: Candidate) -> int | None:
        """Return the optimizer step at which a training stops; None where it goes to its end."""
        return None if self.share is None else max(1, math.ceil(self.share * candidate.steps))


def rungs_of(candidates: Sequence[Candidate]) -> list[Rung]:
    """Return the rungs for candidates: 9 of them go a ninth of the way, 3 a third, 1 to the end."""
    counts = [len(candidates)]
    while counts[-1] > 1:
        counts.append(math.ceil(counts[-1] / KEPT))
    shortest = min(one.steps for one in candidates)
    shares = [KEPT ** -(len(counts) - 1 - number) for number in range(len(counts))]
    rungs = [Rung(share, count) for share, count in zip(shares, counts, strict=True)]
    # A rung of too few steps is left out; what would have been sorted out there goes on to the next one.
    kept = [rung for rung in rungs[:-1] if rung.share is not None and rung.share * shortest >= FEWEST_STEPS]
    kept = [Rung(rung.share, len(candidates) if number == 0 else rung.candidates) for number, rung in enumerate(kept)]
    return [*kept, Rung(None, counts[-1] if kept else len(candidates))]
