"""What a mean is worth when both tasks and training seeds were sampled: every task is tried by every seed's model.

The results of a variant v are a table of seeds x tasks with random effects of both,

    y[v, s, t] = mean[v] + seed[v, s] + task[v, t] + rest[v, s, t].

Tasks are the same for all variants. Seeds are not: a training with other data is another draw, whatever number its
generator started from (where the same number makes two trainings alike, differences come out less sure than they are).
For a weighted sum of the variants' means, such as a difference, a slope or one mean alone, with the weighted sums
c[t] = sum_v w[v] mean_s y[v, s, t] of the tasks and each variant's mean squares MS,

    from the rest    sum_v w[v]^2 MS_rest[v] / (S T)
    from the seeds   sum_v w[v]^2 max(0, MS_seed[v] - MS_rest[v]) / (S T)
    from the tasks   max(0, var(c) / T - from the rest)

add up to its variance (analysis of variance: Searle, Casella and McCulloch 1992, Variance Components, ch. 4; in
generalizability theory Brennan 2001, ch. 3). Its degrees of freedom are Satterthwaite's for that sum of mean squares
(1946, Biometrics Bulletin 2:110). With tasks that are alike this is Welch's t test over seeds, with seeds that are
alike the paired t test over tasks; for one variant it is the variance clustered both ways of Cameron, Gelbach and
Miller (2011, J. Bus. Econ. Stat. 29:238), each term corrected for its number of clusters.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from scipy.special import stdtr, stdtrit

from agent_sft.evals.intervals import LEVEL, Array, Interval, share_interval, wilson
from agent_sft.evals.power import MOST, POWER

NOTHING = 1e-20
"""A variance below this is rounding."""


class Crossed(msgspec.Struct, frozen=True, kw_only=True):
    """A weighted sum of means over seeds and tasks, and what its variance consists of."""

    value: float
    from_seeds: float
    from_tasks: float
    from_rest: float
    """What neither explains, the chance of the trials among it."""
    degrees: float
    """Of freedom, of the variance."""
    seeds: int
    tasks: int

    @property
    def variance(self) -> float:
        """Return the variance of the value, over seeds and tasks."""
        return self.from_seeds + self.from_tasks + self.from_rest


def crossed(array: Array, weights: Sequence[float] = (1.0,)) -> Crossed:
    """Return a weighted sum of variants' means.

    Args:
        array: variants x two or more seeds x two or more tasks.
        weights: one a variant.
    """
    _, seeds, tasks = array.shape
    squared = np.asarray(weights, dtype=float) ** 2 / (seeds * tasks)
    means, by_seed, by_task = array.mean(axis=(1, 2)), array.mean(axis=2), array.mean(axis=1)
    left = array - by_seed[:, :, None] - by_task[:, None, :] + means[:, None, None]
    of_seeds = squared * tasks * ((by_seed - means[:, None]) ** 2).sum(axis=1) / (seeds - 1)
    of_rest = squared * (left**2).sum(axis=(1, 2)) / ((seeds - 1) * (tasks - 1))
    of_tasks = float((np.asarray(weights) @ by_task).var(ddof=1)) / tasks
    # A term that is not above the rest counts as 0, and the rest stands in its place.
    seeds_count, tasks_count = of_seeds > of_rest, of_tasks > of_rest.sum()
    rest_terms = of_rest * ((0.0 if tasks_count else 1.0) - seeds_count)
    spread = (
        ((of_seeds * seeds_count) ** 2).sum() / (seeds - 1)
        + of_tasks**2 * tasks_count / (tasks - 1)
        + (rest_terms**2).sum() / ((seeds - 1) * (tasks - 1))
    )
    from_seeds = float(((of_seeds - of_rest) * seeds_count).sum())
    from_rest = float(of_rest.sum())
    from_tasks = max(0.0, of_tasks - from_rest)
    total = from_seeds + from_tasks + from_rest
    return Crossed(
        value=float(means @ np.asarray(weights, dtype=float)),
        from_seeds=from_seeds,
        from_tasks=from_tasks,
        from_rest=from_rest,
        degrees=float(total**2 / spread) if total > NOTHING else float(tasks - 1),
        seeds=seeds,
        tasks=tasks,
    )


def trial_variance(successes: Array, trials: Array) -> float | None:
    """Return the variance of a share c / n that comes from the chance of its n trials; None where any has only one.

    Unbiased: the mean of p (1 - p) / (n - 1) with p = c / n.
    """
    if (trials < 2).any():
        return None
    share = successes / trials
    return float((share * (1 - share) / (trials - 1)).mean())


def crossed_share_interval(found: Crossed, table: Array) -> Interval | None:
    """Return the 95 % interval of a mean of shares over both seeds and tasks.

    Wilson's at the effective size m (1 - m) / variance. Where all results are the same, the seeds say nothing, and it
    is that of the tasks.

    Args:
        found: the mean of the table.
        table: seeds x tasks.
    """
    if found.variance < NOTHING:
        return share_interval(table.mean(axis=0))
    size = max(found.value * (1 - found.value) / found.variance, 1e-9)
    return wilson(found.value, size, float(stdtrit(found.degrees, 0.5 + LEVEL / 2)))


def crossed_interval(found: Crossed) -> Interval:
    """Return the 95 % interval of a difference or slope: value +- t * SE."""
    half = float(stdtrit(found.degrees, 0.5 + LEVEL / 2)) * found.variance**0.5
    return Interval(found.value - half, found.value + half)


def crossed_p(found: Crossed) -> float:
    """Return the two-sided p-value of a difference or slope: Student's t with Satterthwaite's degrees."""
    if abs(found.value) < 1e-12:
        return 1.0
    if found.variance < NOTHING:
        # All seeds and tasks differ by the same: as sure as that many tasks that all point one way.
        return float(2.0 ** (1 - found.tasks))
    return float(2 * stdtr(found.degrees, -abs(found.value) / found.variance**0.5))


def tasks_needed_with_seeds(found: Crossed) -> int | None:
    """Return how many tasks would tell this difference with 80 % power with as many seeds; None: no number would.

    More tasks leave the part of the seeds as it is. The power is that of a shifted t distribution with the degrees at
    hand (Cohen 1988, ch. 2, approximated).
    """
    if abs(found.value) < 1e-12:
        return None
    room = (abs(found.value) / _reach(found)) ** 2 - found.from_seeds
    needed = (found.from_tasks + found.from_rest) * found.tasks
    if room <= 0 or needed / room > MOST:
        return None
    return max(2, int(np.ceil(needed / room)))


def detectable_with_seeds(found: Crossed) -> float | None:
    """Return the smallest difference that these seeds and tasks tell with 80 % power; None where nothing varies."""
    return _reach(found) * found.variance**0.5 if found.variance >= NOTHING else None


def _reach(found: Crossed) -> float:
    """Return how many standard errors away a difference must be."""
    return float(stdtrit(found.degrees, 0.5 + LEVEL / 2) + stdtrit(found.degrees, POWER))
