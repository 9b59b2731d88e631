"""How likely a difference or a trend is to come from nothing: permutation within tasks.

If the variants do not differ, then in each task the results could as well have come in any other order. The p-value is
the share of all such orders that give at least as large a weighted sum as the one seen (Fisher 1935, section 21). With
two variants that is the sign-flip test.

Results are fractions with small denominators (c of n trials), so the distribution over all orders is worked out
exactly, task by task, on a grid of whole numbers: sums of independent tasks are convolutions (Pagano and
Tritchler 1983). Where they are not, orders are drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm, prod

import numpy as np
from numpy.typing import NDArray

DRAWS = 100_000
SEED = 0
"""Of the orders that are drawn: the same results give the same p-value."""

MAX_WORK = 50_000_000
"""Additions that finding the chances of the single tasks' sums may take."""
MAX_GRID = 500_000
"""Whole numbers between the smallest and the largest sum."""

Number = Fraction | float
Array = NDArray[np.float64]


def permutation_p(results: Sequence[Sequence[Number]], weights: Sequence[Fraction]) -> float:
    """Return the two-sided p-value of the sum over tasks of weighted results.

    Args:
        results: for each task, the result of each variant. Fractions make the p-value exact.
        weights: one a variant; they sum to 0.
    """
    telling = [row for row in results if len(set(row)) > 1]
    if not telling:
        return 1.0
    exact = _exact(telling, weights)
    return exact if exact is not None else _drawn(telling, weights)


def _exact(results: list[Sequence[Number]], weights: Sequence[Fraction]) -> float | None:
    rows = [[value for value in row if isinstance(value, Fraction)] for row in results]
    if any(len(row) != len(weights) for row in rows):
        return None
    scale = lcm(*(value.denominator for row in rows for value in row))
    grid = [tuple(int(value * scale) for value in row) for row in rows]
    weight_scale = lcm(*(weight.denominator for weight in weights))
    whole = [int(weight * weight_scale) for weight in weights]
    divisor = gcd(*whole) or 1
    whole = [weight // divisor for weight in whole]
    seen = abs(sum(_weighted(row, whole) for row in grid))
    patterns = Counter(tuple(sorted(row)) for row in grid)
    ordered = sorted(whole)
    ends = {pattern: (_weighted(pattern, ordered[::-1]), _weighted(pattern, ordered)) for pattern in patterns}
    if sum((ends[pattern][1] - ends[pattern][0]) * times for pattern, times in patterns.items()) > MAX_GRID:
        return None
    if sum(_steps(pattern) * (ends[pattern][1] - ends[pattern][0] + 1) for pattern in patterns) > MAX_WORK:
        return None
    chances, lowest = np.ones(1), 0
    for pattern, times in patterns.items():
        single = _chances(pattern, whole, *ends[pattern])
        for _ in range(times):
            chances = np.convolve(chances, single)
            lowest += ends[pattern][0]
    values = np.arange(lowest, lowest + len(chances))
    return min(1.0, float(chances[np.abs(values) >= seen].sum()))


def _steps(pattern: tuple[int, ...]) -> int:
    """Return how many sums of sums `_chances` makes for a task's results."""
    counts = Counter(pattern).values()
    return prod(count + 1 for count in counts) * len(counts)


def _chances(pattern: tuple[int, ...], weights: Sequence[int], lowest: int, highest: int) -> Array:
    """Return how likely each weighted sum from `lowest` to `highest` is, over all orders of a task's results.

    Results that are equal make orders that are equal, so what is followed from weight to weight is how many of each
    value are left, not which. The least result times the weights is taken off at first: sums then never go below 0.
    """
    values = sorted(set(pattern))
    least = [min(weight * value for value in values) for weight in weights]
    size = sum(max(weight * value for value in values) - low for weight, low in zip(weights, least, strict=True)) + 1
    start = np.zeros(size)
    start[0] = 1.0
    states = {tuple(pattern.count(value) for value in values): start}
    for weight, low in zip(weights, least, strict=True):
        following: dict[tuple[int, ...], Array] = {}
        for left, ways in states.items():
            for index, value in enumerate(values):
                if left[index]:
                    state = (*left[:index], left[index] - 1, *left[index + 1 :])
                    shift = weight * value - low
                    made = following.setdefault(state, np.zeros(size))
                    made[shift:] += ways[: size - shift]
        states = following
    (ways,) = states.values()
    first = lowest - sum(least)
    chances: Array = ways[first : first + highest - lowest + 1] / ways.sum()
    return chances


def _weighted(row: Sequence[int], weights: Sequence[int]) -> int:
    return sum(value * weight for value, weight in zip(row, weights, strict=True))


def _drawn(results: list[Sequence[Number]], weights: Sequence[Fraction]) -> float:
    """Count the order that was seen among the draws, so that p is never 0 (Phipson and Smyth 2010)."""
    values = np.array([[float(value) for value in row] for row in results])
    weight = np.array([float(value) for value in weights])
    seen = abs(float((values @ weight).sum()))
    generator = np.random.default_rng(SEED)
    batch = max(1, 2_000_000 // values.size)
    extreme, left = 0, DRAWS
    while left:
        now = min(batch, left)
        orders = generator.permuted(np.broadcast_to(values, (now, *values.shape)), axis=2)
        # Sums of the same numbers in another order differ in their last digits.
        extreme += int((np.abs((orders @ weight).sum(axis=1)) >= seen - 1e-9).sum())
        left -= now
    return (extreme + 1) / (DRAWS + 1)
