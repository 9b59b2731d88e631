"""95 % intervals of means over tasks. The task is what was sampled: its trials are not independent of each other.

A share near 0 or 1, or of few tasks, is where the usual mean +- t * SE fails: it leaves [0, 1] and covers the truth
far too rarely. The intervals here are Wilson's, at the sample size that the spread between the tasks is worth.
docs/statistics.md has the formulas, their sources and how often each interval held the truth in simulations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

LEVEL = 0.95
"""How often an interval shall hold the truth."""

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """From where to where."""

    low: float
    high: float


def t_quantile(tasks: int) -> float:
    """Return the two-sided quantile of Student's t with one degree of freedom less than there are tasks."""
    return float(stdtrit(tasks - 1, 0.5 + LEVEL / 2))


def wilson(share: float, size: float, quantile: float) -> Interval:
    """Return Wilson's score interval of a share seen in a sample of `size` (Wilson 1927, JASA 22)."""
    square = quantile**2
    scale = 1 + square / size
    centre = (share + square / (2 * size)) / scale
    half = quantile / scale * np.sqrt(share * (1 - share) / size + square / (4 * size**2))
    return Interval(max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def share_interval(per_task: ArrayLike) -> Interval | None:
    """Return the interval of the mean of numbers from 0 to 1, one a task; None for fewer than two tasks.

    Wilson's interval at the effective sample size m (1 - m) / SE^2 with SE = sd / sqrt(T), and the t quantile with
    T - 1 degrees (Korn and Graubard 1998; Dean and Pagano 2015). Where all tasks agree, SE says nothing and
    the size is T.
    """
    values = np.asarray(per_task, dtype=float)
    if len(values) < 2:
        return None
    mean = float(values.mean())
    return _effective_wilson(mean, float(values.var(ddof=1)) / len(values), len(values))


def ratio_interval(parts: ArrayLike, wholes: ArrayLike) -> Interval | None:
    """Return the interval of sum(parts) / sum(wholes), a share of things that come in any number a task.

    The variance is that of a ratio of two sums over tasks, linearised (Cochran 1977, ch. 6): with
    residuals e = part - ratio * whole it is T / (T - 1) * sum(e^2) / sum(wholes)^2. Then as `share_interval`.
    """
    part, whole = np.asarray(parts, dtype=float), np.asarray(wholes, dtype=float)
    tasks = int(np.count_nonzero(whole))
    if tasks < 2:
        return None
    ratio = float(part.sum() / whole.sum())
    residuals = part - ratio * whole
    variance = float(tasks / (tasks - 1) * (residuals**2).sum() / whole.sum() ** 2)
    return _effective_wilson(ratio, variance, tasks)


def mean_interval(per_task: ArrayLike) -> Interval | None:
    """Return mean +- t * sd / sqrt(T) of any numbers, one a task; None for fewer than two tasks."""
    values = np.asarray(per_task, dtype=float)
    if len(values) < 2:
        return None
    half = t_quantile(len(values)) * float(values.std(ddof=1)) / len(values) ** 0.5
    return Interval(float(values.mean()) - half, float(values.mean()) + half)


def contrast_interval(per_task: Array, weights: Sequence[float]) -> Interval | None:
    """Return the interval of a weighted sum of the means of several variants on the same tasks.

    It is put together from the variants' own intervals and the correlations between them (MOVER: Zou and Donner
    2008; of two paired shares: Newcombe 1998). Unlike mean +- t * SE of the differences it stays honest where a
    variant solves next to all tasks or none. Where no task tells the variants apart, it is as wide as a share of
    0 out of T leaves open.

    Args:
        per_task: tasks x variants, numbers from 0 to 1.
        weights: one a variant, such as (-1, 1) for a difference; they sum to 0.
    """
    tasks = len(per_task)
    if tasks < 2:
        return None
    weight = np.asarray(weights, dtype=float)
    means = per_task.mean(axis=0)
    if np.ptp(per_task, axis=1).max() == 0:
        open_ = wilson(0.0, tasks, t_quantile(tasks)).high * float(np.abs(weight).sum()) / 2
        return Interval(-open_, open_)
    own = np.array([share_interval(column) for column in per_task.T])
    ends = np.sort(own * weight[:, None], axis=1)
    signs = np.sign(weight)
    agreement = _correlations(per_task) * np.outer(signs, signs)
    value = float(weight @ means)
    below, above = weight * means - ends[:, 0], ends[:, 1] - weight * means
    return Interval(
        value - float(np.sqrt(max(0.0, below @ agreement @ below))),
        value + float(np.sqrt(max(0.0, above @ agreement @ above))),
    )


def _effective_wilson(mean: float, variance: float, tasks: int) -> Interval:
    mean = min(1.0, max(0.0, mean))
    # Rounding leaves a variance of some 1e-34 where all values are the same.
    size = mean * (1 - mean) / variance if variance > 1e-20 else float(tasks)
    return wilson(mean, max(size, 1e-9), t_quantile(tasks))


def _correlations(per_task: Array) -> Array:
    """Return Pearson's correlations between the columns; 0 with a column that is the same everywhere."""
    centred = per_task - per_task.mean(axis=0)
    lengths = np.sqrt((centred**2).sum(axis=0))
    lengths[lengths < 1e-12] = np.inf
    correlations: Array = centred.T @ centred / np.outer(lengths, lengths)
    np.fill_diagonal(correlations, 1.0)
    return correlations
