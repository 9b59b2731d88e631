"""Successive halving: all candidates a little way, the best of them further, the last two to the end.

Every training has the learning-rate schedule of its whole length from its first step on, is stopped with a whole
checkpoint at a rung, and goes on from it if it is among the best third there (Li et al. 2020, "A System for Massively
Parallel Hyperparameter Tuning", whose trainings are all equally long here, so that a rung is waited for as a whole).
Which of the last is the best is told at the end alone: on the way a high rate looks worse than it turns out to be when
it has fallen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agent_sft.report.plan.record import Candidate

KEPT = 3
"""One of so many goes on from each rung."""
LAST = 2
"""So many go to the end."""
FEWEST_STEPS = 10
"""Of the first rung: fewer tell nothing."""
WARM_UPS = 2
"""Of the first rung: where the rate has only just risen, candidates differ by what the rise did to them."""
LEAST_GROWTH = 2
"""Each rung is so many times as far as the one before: nearer ones would sort by the same again."""


@dataclass(frozen=True)
class Rung:
    """A step of the halving."""

    share: float | None
    """Of each training's steps; None for all of them."""
    candidates: int
    """How many are trained so far."""

    def step(self, candidate: Candidate) -> int | None:
        """Return the optimizer step at which a training stops; None where it goes to its end."""
        return None if self.share is None else max(1, math.ceil(round(self.share * candidate.steps, 6)))


def rungs_of(candidates: Sequence[Candidate]) -> list[Rung]:
    """Return the rungs for candidates: 9 of them go a ninth of the way, 3 a third, 2 to the end.

    Where a ninth is too little to tell them apart, the first rung is as far as it takes, and those after it lie nearer
    together; where no room is left for one, fewer are sorted out.
    """
    counts = [len(candidates)]
    while counts[-1] > LAST:
        counts.append(max(LAST, math.ceil(counts[-1] / KEPT)))
    first = max(KEPT ** (1 - len(counts)), *(_first_steps(one) / one.steps for one in candidates))
    room = int(math.log2(1 / first) / math.log2(LEAST_GROWTH)) if first < 1 else 0
    number = min(len(counts) - 1, room)
    shares = [first ** ((number - rung) / number) for rung in range(number)]
    return [*(Rung(share, count) for share, count in zip(shares, counts, strict=False)), Rung(None, counts[number])]


def _first_steps(candidate: Candidate) -> int:
    return max(FEWEST_STEPS, WARM_UPS * candidate.warm_up)
