"""How often the 95 % intervals of evaluations hold the truth, in simulations; beside the usual mean +- t * SE.

    python benchmarks/interval_coverage.py [--draws 2000]

Each task has a chance of success of its own, drawn from a beta distribution; the tasks of an evaluation are a sample,
each tried four times. The truth is the mean over all tasks that there could be.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, product
from math import comb
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent_sft.evals.intervals import Interval, contrast_interval, mean_interval, share_interval  # noqa: E402

TRIALS = 4
SPREAD = 2.0
"""a + b of the beta distribution: 2 is uniform where the mean is 0.5, so some tasks are easy and some hopeless."""

Array = NDArray[np.float64]
Row = tuple[str, str, float, float]
Pair = tuple[Interval | None, Interval | None]


def pass_k(chances: Array, k: int, generator: np.random.Generator) -> Array:
    """Return pass^k of each task, of four trials."""
    values = np.array([comb(count, k) / comb(TRIALS, k) for count in range(TRIALS + 1)])
    found: Array = values[generator.binomial(TRIALS, chances)]
    return found


def expected(mean: float, k: int) -> float:
    """Return the mean of p^k over the beta distribution."""
    a, total = mean * SPREAD, SPREAD
    return float(np.prod([(a + step) / (total + step) for step in range(k)]))


def coverage(draws: int, truth: float, draw: Callable[[], Pair]) -> list[float]:
    """Return how often ours and the usual interval hold the truth, in percent."""
    held = [
        [interval is not None and interval.low <= truth <= interval.high for interval in draw()] for _ in range(draws)
    ]
    return [float(share) for share in 100 * np.mean(held, axis=0)]


def draw_mean(mean: float, tasks: int, k: int, generator: np.random.Generator) -> Pair:
    """Return both intervals of pass^k in one simulated evaluation."""
    chances = generator.beta(mean * SPREAD, (1 - mean) * SPREAD, tasks)
    values = pass_k(chances, k, generator)
    return share_interval(values), mean_interval(values)


def draw_contrast(
    mean: float, drop: float, settings: Sequence[float], tasks: int, generator: np.random.Generator
) -> Pair:
    """Return both intervals of a contrast of pass^1 in simulated evaluations of the same tasks.

    Each task loses a share of its chance that is its own, `drop` on average at the last setting.
    """
    chances = generator.beta(mean * SPREAD, (1 - mean) * SPREAD, tasks)
    loss = generator.beta(2 * drop, 2 * (1 - drop), tasks) if drop else np.zeros(tasks)
    steps = [chances * (1 - loss * setting / settings[-1]) for setting in settings]
    table = np.column_stack([pass_k(step, 1, generator) for step in steps])
    weights = slope_weights(settings)
    return contrast_interval(table, list(weights)), mean_interval(table @ weights)


def slope_weights(settings: Sequence[float]) -> Array:
    """Return what a least-squares slope weighs the settings with; of 0 and 1 it is the difference."""
    centred = np.array(settings) - np.mean(settings)
    weights: Array = centred / (centred**2).sum()
    return weights


def of_means(draws: int, generator: np.random.Generator) -> Iterator[Row]:
    """Yield the coverage of a mean over tasks."""
    for tasks, k, mean in product((20, 60, 114), (1, TRIALS), (0.02, 0.05, 0.1, 0.3, 0.5, 0.8, 0.95)):
        truth = expected(mean, k)
        ours, usual = coverage(draws, truth, partial(draw_mean, mean, tasks, k, generator))
        yield f"pass^{k}, {tasks} tasks", f"{truth:.3f}", ours, usual


def of_any_truth(draws: int, generator: np.random.Generator) -> Iterator[Row]:
    """Yield the coverage of a mean over tasks where every truth is as likely as another: a new one for each draw."""
    for tasks, k in product((20, 60, 114), (1, TRIALS)):
        held = []
        for mean in generator.uniform(size=draws):
            truth = expected(mean, k)
            held.append(coverage(1, truth, partial(draw_mean, mean, tasks, k, generator)))
        ours, usual = np.mean(held, axis=0)
        yield f"pass^{k}, {tasks} tasks", "any", float(ours), float(usual)


def of_contrasts(draws: int, generator: np.random.Generator) -> Iterator[Row]:
    """Yield the coverage of a difference of two variants, and of a slope over four settings."""
    cases = ((0.9, 0.0), (0.9, 0.2), (0.5, 0.0), (0.5, 0.3), (0.05, 0.0), (0.05, 0.5))
    for settings, tasks, (mean, drop) in product(((0.0, 1.0), (0.0, 5.0, 10.0, 20.0)), (20, 60, 114), cases):
        truth = float(slope_weights(settings) @ [mean * (1 - drop * setting / settings[-1]) for setting in settings])
        ours, usual = coverage(draws, truth, partial(draw_contrast, mean, drop, settings, tasks, generator))
        title = "difference" if len(settings) == 2 else "slope over 0, 5, 10, 20"
        yield f"{title}, {tasks} tasks", f"{mean:g} - {drop:.0%}", ours, usual


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000)
    draws = parser.parse_args().draws
    generator = np.random.default_rng(0)
    print("| what | truth | ours | mean +- t SE |\n|---|---|---:|---:|")
    for what, truth, ours, usual in chain(*(rows(draws, generator) for rows in (of_any_truth, of_means, of_contrasts))):
        print(f"| {what} | {truth} | {ours:.1f} | {usual:.1f} |")


if __name__ == "__main__":
    main()
