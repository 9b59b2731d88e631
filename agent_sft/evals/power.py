"""How many tasks it takes to tell a difference, and which difference so many tasks can tell.

Both are of the paired t test, two-sided at 5 %, found with a chance of 80 % (Cohen 1988, ch. 2): under the alternative
its statistic has a noncentral t distribution with T - 1 degrees and noncentrality difference / sd * sqrt(T).
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from scipy.special import nctdtr

from agent_sft.evals.intervals import t_quantile

POWER = 0.8
STEPS = 10**12
"""Among so many differences the smallest one is sought that can be told."""
MOST = 1_000_000
"""More tasks than this are as good as never."""


def power(effect: float, tasks: int) -> float:
    """Return the chance to find a difference of `effect` standard deviations of the differences over tasks."""
    degrees, critical = tasks - 1, t_quantile(tasks)
    shift = abs(effect) * tasks**0.5
    # What is too small for a number comes back as NaN.
    missed, wrong_way = np.nan_to_num(nctdtr(degrees, shift, [critical, -critical]))
    return float(1 - missed + wrong_way)


def tasks_needed(difference: float, deviation: float) -> int | None:
    """Return how many tasks tell a difference whose standard deviation over tasks is `deviation`.

    None where there is no difference to tell, or it takes more than a million tasks.
    """
    if abs(difference) < 1e-12:
        return None
    if deviation < 1e-12:
        return 2
    effect = difference / deviation
    if power(effect, MOST) < POWER:
        return None
    return bisect_left(range(MOST), POWER, lo=2, key=lambda tasks: power(effect, tasks))


def detectable(deviation: float, tasks: int) -> float | None:
    """Return the smallest difference that so many tasks tell; None for fewer than two tasks or no deviation."""
    if tasks < 2 or deviation < 1e-12:
        return None
    furthest = 1.0
    while power(furthest, tasks) < POWER:
        furthest *= 2
    # Not by scipy.optimize, which takes half a second to import.
    step = furthest / STEPS
    return bisect_left(range(STEPS), POWER, key=lambda number: power(number * step, tasks)) * step * deviation
