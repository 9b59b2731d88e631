"""Variants compared on the same tasks: which is better, how sure that is, and what it would take to tell."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from agent_sft.errors import UserError
from agent_sft.evals.intervals import Interval, contrast_interval
from agent_sft.evals.outcomes import FIRST
from agent_sft.evals.pairing import paired
from agent_sft.evals.permutation import permutation_p
from agent_sft.evals.power import detectable, tasks_needed

SURE = 0.05
"""A difference counts as told when its p-value, corrected, is below this."""

Verdict = Literal["better", "worse", "cannot tell"]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One of what is compared."""

    folder: str
    model: str
    value: float
    """The measure's mean over the tasks that are compared."""
    setting: float | None = None
    """Where it stands in the order."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A variant against the baseline."""

    variant: str
    value: float
    """Its mean less the baseline's."""
    low: float | None
    high: float | None
    p: float
    """Of the permutation within tasks, two-sided."""
    p_corrected: float
    """Holm's, over all variants that are compared."""
    verdict: Verdict
    gained: list[str]
    """The tasks that it does better."""
    lost: list[str]
    same: int
    tasks_needed: int | None
    """How many tasks would tell this difference with 80 % power; None where no number of tasks would."""
    detectable: float | None
    """The smallest difference that these tasks tell with 80 % power."""


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """How the measure changes with an ordered setting: the mean of each task's least-squares slope."""

    slope: float
    """Per unit of the setting."""
    low: float | None
    high: float | None
    p: float
    """Of the permutation within tasks, two-sided."""
    verdict: Literal["rises", "falls", "cannot tell"]
    tasks_needed: int | None = None
    """How many tasks would tell this slope with 80 % power; None where no number of tasks would."""
    detectable: float | None = None
    """The smallest slope that these tasks tell with 80 % power."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Variants on the same tasks."""

    measure: str
    family: str | None
    tasks: int
    baseline: str
    variants: list[Variant]
    differences: list[Difference]
    trend: Trend | None
    notes: list[str]
    seeds: int = 1
    """Training seeds of each variant that intervals and p-values are over, beside the tasks."""


def compare(
    folders: Sequence[str | Path],
    *,
    baseline: str | Path | None = None,
    measure: str = FIRST,
    order: Sequence[Fraction] | None = None,
    family: str | None = None,
    common_tasks: bool = False,
    despite_differences: bool = False,
) -> Comparison:
    """Compare evaluations of the same tasks.

    Args:
        folders: two or more; the first is the baseline unless another is named.
        baseline: one of the folders.
        measure: `pass^K`, `pass@K` or `score`.
        order: the setting of each folder, for the trend.
        family: compare on the tasks of this family alone.
        common_tasks: compare on the tasks that all have where they do not have the same ones.
        despite_differences: compare also where the customer, the benchmark or the limits differ, and say so.

    Raises:
        UserError: the evaluations cannot be compared, or what was asked for is not there.
    """
    names = [str(folder) for folder in folders]
    first = _baseline(names, baseline)
    if order is not None and len(order) != len(names):
        raise UserError(f"names {len(order)} settings for {len(names)} evaluations", where="--order")
    if order is not None and len(set(order)) < 2:
        raise UserError("all settings are the same", where="--order", fix="name each evaluation's own, in their order")
    evaluations, kept, table, what, notes = paired(
        names, measure=measure, family=family, common_tasks=common_tasks, despite_differences=despite_differences
    )
    array = np.array(table, dtype=float)
    differences = corrected(
        [
            difference(
                name,
                kept,
                [(row[first], row[column]) for row in table],
                array[:, column] - array[:, first],
                contrast_interval(array[:, [first, column]], (-1.0, 1.0)),
            )
            for column, name in enumerate(names)
            if column != first
        ]
    )
    if len(kept) == 1:
        notes.append("there is one task: how tasks differ is not known, so there is no interval")
    notes.append("the interval and p are about these checkpoints: another training seed may differ by more")
    return Comparison(
        measure=str(what),
        family=family,
        tasks=len(kept),
        baseline=names[first],
        variants=[
            Variant(
                folder=name,
                model=evaluation.model,
                value=float(array[:, column].mean()),
                setting=float(order[column]) if order is not None else None,
            )
            for column, (name, evaluation) in enumerate(zip(names, evaluations, strict=True))
        ],
        differences=differences,
        trend=_trend(table, array, order) if order is not None else None,
        notes=notes,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method (Holm 1979)."""
    ranked = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(ranked):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def _baseline(names: list[str], baseline: str | Path | None) -> int:
    if len(names) < 2:
        raise UserError("there is nothing to compare with", fix="name two or more folders")
    if len({Path(name).resolve() for name in names}) < len(names):
        raise UserError("the same folder is named twice")
    if baseline is None:
        return 0
    wanted = Path(baseline).resolve()
    for index, name in enumerate(names):
        if Path(name).resolve() == wanted:
            return index
    raise UserError("is not among the folders", where=f"--baseline {baseline}", fix=f"choose from {', '.join(names)}")


def difference(
    variant: str,
    tasks: Sequence[str],
    pairs: Sequence[tuple[Fraction | float, Fraction | float]],
    change: np.ndarray,
    interval: Interval | None,
    *,
    higher_is_better: bool = True,
) -> Difference:
    """Return what is told of a variant beside the baseline, before it is corrected for the others.

    Args:
        variant: its name.
        tasks: the name of each task.
        pairs: the baseline's value and the variant's, for each task.
        change: the differences of these, as numbers.
        interval: of their mean; None where there is none.
        higher_is_better: whether a task that rose is gained, or lost.
    """
    value, several = float(change.mean()), len(change) > 1
    deviation = float(change.std(ddof=1)) if several else 0.0
    p = permutation_p(pairs, (Fraction(-1), Fraction(1)))
    risen = [task for task, (before, after) in zip(tasks, pairs, strict=True) if after > before]
    fallen = [task for task, (before, after) in zip(tasks, pairs, strict=True) if after < before]
    return Difference(
        variant=variant,
        value=value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        p=p,
        p_corrected=p,
        verdict="cannot tell",
        gained=risen if higher_is_better else fallen,
        lost=fallen if higher_is_better else risen,
        same=sum(before == after for before, after in pairs),
        tasks_needed=tasks_needed(value, deviation) if several else None,
        detectable=detectable(deviation, len(change)),
    )


def corrected(differences: list[Difference], *, higher_is_better: bool = True) -> list[Difference]:
    """Return the differences with Holm's p-values, and the verdicts that follow from them."""
    p_values = holm([one.p for one in differences])
    told = []
    for one, p in zip(differences, p_values, strict=True):
        good = (one.value > 0) == higher_is_better
        verdict: Verdict = "cannot tell" if p >= SURE else "better" if good else "worse"
        told.append(msgspec.structs.replace(one, p_corrected=p, verdict=verdict))
    return told


def slope_weights(order: Sequence[Fraction]) -> list[Fraction]:
    """Return the weights whose sum is a least-squares slope: (s - mean s) / sum (s - mean s)^2."""
    middle = sum(order, Fraction(0)) / len(order)
    spread = sum((setting - middle) ** 2 for setting in order)
    return [(setting - middle) / spread for setting in order]


def _trend(table: list[list[Fraction | float]], array: np.ndarray, order: Sequence[Fraction]) -> Trend:
    """Return the mean slope over tasks."""
    weights = slope_weights(order)
    floats = [float(weight) for weight in weights]
    interval = contrast_interval(array, floats)
    slopes = array @ np.array(floats)
    slope = float(slopes.mean())
    deviation = float(slopes.std(ddof=1)) if len(slopes) > 1 else 0.0
    p = permutation_p(table, weights)
    return Trend(
        slope=slope,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        p=p,
        verdict="cannot tell" if p >= SURE else "rises" if slope > 0 else "falls",
        tasks_needed=tasks_needed(slope, deviation) if len(slopes) > 1 else None,
        detectable=detectable(deviation, len(slopes)),
    )
