"""Variants that were trained with several seeds, compared: what holds for other seeds too, not for these models only.

`evals.crossed` has the formulas, and their sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np

from agent_sft.errors import UserError
from agent_sft.evals.comparison import SURE, Comparison, Difference, Trend, Variant, corrected, slope_weights
from agent_sft.evals.crossed import (
    NOTHING,
    Crossed,
    crossed,
    crossed_interval,
    crossed_p,
    crossed_share_interval,
    detectable_with_seeds,
    tasks_needed_with_seeds,
    trial_variance,
)
from agent_sft.evals.intervals import Array, Interval, contrast_interval, share_interval
from agent_sft.evals.outcomes import FIRST, outcomes
from agent_sft.evals.pairing import paired
from agent_sft.evals.results import read_results
from agent_sft.evals.statistics import Estimate

Folders = Mapping[int, str | Path]
"""The evaluation of each seed of a variant."""


class GroupEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """A variant's mean over seeds and tasks."""

    group: str
    estimate: Estimate
    by_seed: dict[int, float]
    """The mean over tasks of each seed."""
    crossed: Crossed | None
    """None for fewer than two seeds or tasks."""
    trials: float | None
    """Of the variance of a task's result for one seed, what comes from the chance of its trials; of `pass^1` alone, and
    None where each has one trial."""


def estimate_group(group: str, folders: Folders, *, measure: str = FIRST, family: str | None = None) -> GroupEstimate:
    """Return a variant's mean over seeds and tasks, with an interval that covers both; of one seed, over tasks.

    Raises:
        UserError: the evaluations are not of the same tasks, or have no results.
    """
    names = [str(folder) for folder in folders.values()]
    found = paired(names, measure=measure, family=family, common_tasks=True)
    table = np.array(found.table, dtype=float).T
    whole = crossed(table[None]) if min(table.shape) > 1 else None
    interval = crossed_share_interval(whole, table) if whole is not None else share_interval(table.mean(axis=0))
    return GroupEstimate(
        group=group,
        estimate=Estimate(
            measure=str(found.measure),
            value=float(table.mean()),
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            tasks=len(found.tasks),
        ),
        by_seed={seed: float(row.mean()) for seed, row in zip(folders, table, strict=True)},
        crossed=whole,
        trials=_within(names, set(found.tasks)) if measure == FIRST else None,
    )


def compare_seeds(
    groups: Mapping[str, Folders],
    *,
    baseline: str,
    measure: str = FIRST,
    order: Mapping[str, Fraction] | None = None,
    family: str | None = None,
) -> Comparison:
    """Compare variants over the seeds that all of them were trained with, at least two.

    The p-values are of Student's t over seeds and tasks: those of `compare` hold for the models at hand alone.

    Args:
        groups: each variant's evaluations.
        baseline: one of the variants.
        measure: `pass^K`, `pass@K` or `score`.
        order: the setting of each variant, for the trend.
        family: compare on the tasks of this family alone.

    Raises:
        UserError: the evaluations cannot be compared, or no two seeds or tasks are common to all of them.
    """
    names = list(groups)
    seeds = [seed for seed in groups[baseline] if all(seed in folders for folders in groups.values())]
    if len(seeds) < 2:
        raise UserError("fewer than two seeds are common to all variants", fix="finish them: the same command again")
    found = paired(
        [str(groups[name][seed]) for name in names for seed in seeds], measure=measure, family=family, common_tasks=True
    )
    if len(found.tasks) < 2:
        raise UserError("there is one task: how tasks differ is not known", fix="evaluate on more tasks")
    array = np.array(found.table, dtype=float).T.reshape(len(names), len(seeds), len(found.tasks))
    first = names.index(baseline)
    left_out = {seed for folders in groups.values() for seed in folders} - set(seeds)
    notes = [note for note in found.notes if "same weights" not in note and "differ in their settings" not in note]
    if left_out:
        listed = ", ".join(map(str, sorted(left_out)))
        notes.append(f"seeds that not all variants have are left out: {listed}")
    notes.append(f"intervals and p-values are over {len(seeds)} training seeds and {len(found.tasks):,} tasks")
    return Comparison(
        measure=str(found.measure),
        family=family,
        tasks=len(found.tasks),
        baseline=baseline,
        variants=[
            Variant(
                folder=name,
                model=found.evaluations[number * len(seeds)].model,
                value=float(array[number].mean()),
                setting=float(order[name]) if order is not None else None,
            )
            for number, name in enumerate(names)
        ],
        differences=corrected(
            [
                _difference(name, array[[first, number]], found.tasks)
                for number, name in enumerate(names)
                if number != first
            ]
        ),
        trend=_trend(array, [order[name] for name in names]) if order is not None else None,
        notes=notes,
        seeds=len(seeds),
    )


def _difference(name: str, pair: Array, tasks: Sequence[str]) -> Difference:
    whole, interval, p = _contrast(pair, [-1.0, 1.0])
    change = pair[1].mean(axis=0) - pair[0].mean(axis=0)
    return Difference(
        variant=name,
        value=whole.value,
        low=max(-1.0, interval.low),
        high=min(1.0, interval.high),
        p=p,
        p_corrected=p,
        verdict="cannot tell",
        gained=[task for task, by in zip(tasks, change, strict=True) if by > 1e-12],
        lost=[task for task, by in zip(tasks, change, strict=True) if by < -1e-12],
        same=int((np.abs(change) <= 1e-12).sum()),
        tasks_needed=tasks_needed_with_seeds(whole),
        detectable=detectable_with_seeds(whole),
    )


def _trend(array: Array, order: Sequence[Fraction]) -> Trend:
    whole, interval, p = _contrast(array, [float(weight) for weight in slope_weights(order)])
    return Trend(
        slope=whole.value,
        low=interval.low,
        high=interval.high,
        p=p,
        verdict="cannot tell" if p >= SURE else "rises" if whole.value > 0 else "falls",
        tasks_needed=tasks_needed_with_seeds(whole),
        detectable=detectable_with_seeds(whole),
    )


def _contrast(array: Array, weights: Sequence[float]) -> tuple[Crossed, Interval, float]:
    """Return a weighted sum of variants (variants x seeds x tasks), its interval and its p-value."""
    whole = crossed(array, weights)
    if whole.variance < NOTHING:
        interval = contrast_interval(array.mean(axis=1).T, weights)
        assert interval is not None
        return whole, interval, crossed_p(whole)
    return whole, crossed_interval(whole), crossed_p(whole)


def _within(folders: Sequence[str], tasks: set[str]) -> float | None:
    """Return the variance of a task's share of successes that comes from the chance of its trials."""
    cells = [one for folder in folders for one in outcomes(*read_results(folder)) if one.task in tasks]
    successes = np.array([cell.successes for cell in cells], dtype=float)
    return trial_variance(successes, np.array([cell.scored for cell in cells], dtype=float))
