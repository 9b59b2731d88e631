"""What became of each task over its trials, and the measures that are made of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from math import comb

import msgspec

from agent_sft.errors import UserError
from agent_sft.evals.results import Evaluation, Trial

FIRST = "pass^1"
SCORE = "score"
"""The measure that is the mean score itself, where answers can be partly right."""

_NAMED = re.compile(r"pass([\^@])([1-9]\d*)")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A task over its trials."""

    task: str
    asked: int
    """Trials that were asked for."""
    scores: tuple[float, ...]
    """Of the trials that have one: what the infrastructure failed is left out and counted as missing."""
    successes: int

    @property
    def scored(self) -> int:
        """Return how many trials have a score."""
        return len(self.scores)

    def completed(self, *, right: bool) -> Outcome:
        """Return what it would be if every trial without a score had been right, or wrong."""
        lacking = self.asked - self.scored
        return Outcome(
            task=self.task,
            asked=self.asked,
            scores=self.scores + (float(right),) * lacking,
            successes=self.successes + lacking * right,
        )


class Measure(msgspec.Struct, frozen=True):
    """A number that each task has, whose mean over tasks is reported."""

    kind: str
    """`^`: the chance that k trials all succeed; `@`: that at least one of k does; `score`: the mean score."""
    k: int = 1

    def __str__(self) -> str:
        return SCORE if self.kind == SCORE else f"pass{self.kind}{self.k}"

    def of(self, outcome: Outcome) -> Fraction | float | None:
        """Return the task's number, unbiased; None where it has fewer scored trials than that takes."""
        if outcome.scored < self.k:
            return None
        if self.kind == SCORE:
            return sum(outcome.scores) / outcome.scored
        if self.kind == "^":
            return pass_hat(outcome.successes, outcome.scored, self.k)
        return pass_at(outcome.successes, outcome.scored, self.k)


def pass_hat(successes: int, trials: int, k: int) -> Fraction:
    """Return pass^k of a task, C(c, k) / C(n, k): the share of sets of k trials that all succeeded.

    From tau-bench (Yao et al. 2024, arXiv 2406.12045); needs k <= trials.
    """
    return Fraction(comb(successes, k), comb(trials, k))


def pass_at(successes: int, trials: int, k: int) -> Fraction:
    """Return pass@k of a task, 1 - C(n - c, k) / C(n, k): the share of sets of k trials with at least one success.

    From Chen et al. 2021 (arXiv 2107.03374); needs k <= trials.
    """
    return 1 - Fraction(comb(trials - successes, k), comb(trials, k))


def parse_measure(text: str) -> Measure:
    """Return the measure that is called `pass^K`, `pass@K` or `score`.

    Raises:
        UserError: it is called otherwise.
    """
    if text == SCORE:
        return Measure(SCORE)
    match = _NAMED.fullmatch(text)
    if match is None:
        raise UserError(f"there is no measure '{text}'", fix="there are pass^K, pass@K (such as pass^4) and score")
    return Measure(match[1], int(match[2]))


def measures(trials: int) -> list[Measure]:
    """Return what is reported of so many trials a task: every k up to 4, powers of two beyond, and the last."""
    sizes = [k for k in range(1, trials + 1) if k <= 4 or k == trials or k & (k - 1) == 0]
    return [Measure("^", k) for k in sizes] + [Measure("@", k) for k in sizes if k > 1]


def outcomes(evaluation: Evaluation, trials: Iterable[Trial]) -> list[Outcome]:
    """Return what became of each task that was asked for, in order."""
    by_task: dict[str, list[Trial]] = {task: [] for task in evaluation.tasks}
    for trial in trials:
        by_task[trial.task].append(trial)
    return [
        Outcome(
            task=task,
            asked=evaluation.trials,
            scores=tuple(trial.score for trial in found if trial.score is not None),
            successes=sum(trial.succeeded for trial in found),
        )
        for task, found in by_task.items()
    ]


def is_partial(trials: Iterable[Trial]) -> bool:
    """Return whether any answer was partly right."""
    return any(trial.score is not None and trial.score > 0 and not trial.succeeded for trial in trials)
