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
from itertools import permutations
from math import gcd, lcm, prod

import numpy as np

DRAWS = 100_000
SEED = 0
"""Of the orders that are drawn: the same results give the same p-value."""

MAX_ORDERS = 720
"""Orders of one task's results that are listed."""
MAX_GRID = 500_000
"""Whole numbers between the smallest and the largest sum."""

Number = Fraction | float


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
    if prod(range(1, len(weights) + 1)) > MAX_ORDERS:
        return None
    scale = lcm(*(value.denominator for row in rows for value in row))
    grid = [tuple(int(value * scale) for value in row) for row in rows]
    weight_scale = lcm(*(weight.denominator for weight in weights))
    whole = [int(weight * weight_scale) for weight in weights]
    divisor = gcd(*whole) or 1
    whole = [weight // divisor for weight in whole]
    seen = abs(sum(_weighted(row, whole) for row in grid))
    patterns = Counter(tuple(sorted(row)) for row in grid)
    sums = {pattern: Counter(_weighted(order, whole) for order in permutations(pattern)) for pattern in patterns}
    spans = {pattern: max(counted) - min(counted) for pattern, counted in sums.items()}
    if sum(spans[pattern] * times for pattern, times in patterns.items()) > MAX_GRID:
        return None
    chances, lowest = np.ones(1), 0
    for pattern, times in patterns.items():
        counted = sums[pattern]
        first = min(counted)
        single = np.zeros(spans[pattern] + 1)
        for value, count in counted.items():
            single[value - first] = count / counted.total()
        for _ in range(times):
            chances = np.convolve(chances, single)
            lowest += first
    values = np.arange(lowest, lowest + len(chances))
    return min(1.0, float(chances[np.abs(values) >= seen].sum()))


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
