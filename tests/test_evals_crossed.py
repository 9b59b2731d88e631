"""Means over seeds and tasks: against a second way of computing them, and against simulation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from agent_sft.evals.crossed import (
    crossed,
    crossed_interval,
    crossed_p,
    crossed_share_interval,
    detectable_with_seeds,
    tasks_needed_with_seeds,
    trial_variance,
)
from agent_sft.evals.intervals import mean_interval, share_interval
from agent_sft.evals.power import detectable, tasks_needed

EXACT = 1e-9


def table(seed: int, seeds: int, tasks: int, *, of_seeds: float, of_tasks: float, rest: float = 0.2) -> np.ndarray:
    """Results with these standard deviations around 0.5."""
    generator = np.random.default_rng(seed)
    found: np.ndarray = (
        0.5
        + generator.normal(0, of_seeds, (seeds, 1))
        + generator.normal(0, of_tasks, (1, tasks))
        + generator.normal(0, rest, (seeds, tasks))
    )
    return found


@pytest.mark.parametrize("spreads", [(0.2, 0.2), (0.0, 0.3), (0.3, 0.0), (0.0, 0.0)])
@pytest.mark.slow
def test_the_parts_are_those_of_an_analysis_of_variance(spreads: tuple[float, float]) -> None:
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    results = table(3, 4, 12, of_seeds=spreads[0], of_tasks=spreads[1])
    frame = pd.DataFrame({"y": results.ravel(), "s": np.repeat(np.arange(4), 12), "t": np.tile(np.arange(12), 4)})
    squares = anova_lm(ols("y ~ C(s) + C(t)", frame).fit())["mean_sq"]
    seed, task, rest = squares["C(s)"], squares["C(t)"], squares["Residual"]
    mine = crossed(results[None])
    assert mine.from_seeds == pytest.approx(max(0.0, seed - rest) / 48, abs=EXACT)
    assert mine.from_tasks == pytest.approx(max(0.0, task - rest) / 48, abs=EXACT)
    assert mine.from_rest == pytest.approx(rest / 48, abs=EXACT)
    assert mine.value == pytest.approx(results.mean(), abs=EXACT)


def test_the_variance_of_the_mean_is_the_two_way_clustered_one() -> None:
    """Cameron, Gelbach and Miller: by seeds, plus by tasks, less by both, each with its factor for few clusters."""
    results = table(5, 5, 30, of_seeds=0.2, of_tasks=0.2)
    away = results - results.mean()
    cells = results.size
    by_seed = 5 / 4 * (away.sum(axis=1) ** 2).sum() / cells**2
    by_task = 30 / 29 * (away.sum(axis=0) ** 2).sum() / cells**2
    left = away - away.mean(axis=1, keepdims=True) - away.mean(axis=0, keepdims=True)
    by_both = cells / (4 * 29) * (left**2).sum() / cells**2
    assert crossed(results[None]).variance == pytest.approx(by_seed + by_task - by_both, abs=EXACT)


def test_seeds_that_do_not_matter_leave_the_interval_of_the_tasks() -> None:
    shares = np.random.default_rng(2).integers(0, 5, 40) / 4
    results = np.tile(shares, (3, 1))
    found = crossed(results[None])
    mine, theirs = crossed_share_interval(found, results), share_interval(shares)
    assert mine is not None and theirs is not None
    assert mine == pytest.approx(theirs, abs=EXACT)
    assert found.degrees == pytest.approx(39, abs=EXACT)


def test_seeds_that_do_not_matter_leave_the_paired_t_test_of_the_tasks() -> None:
    before, after = np.random.default_rng(2).integers(0, 5, (2, 40)) / 4
    found = crossed(np.stack([np.tile(before, (3, 1)), np.tile(after, (3, 1))]), [-1.0, 1.0])
    theirs = scipy.stats.ttest_rel(after, before)
    assert crossed_p(found) == pytest.approx(theirs.pvalue, abs=EXACT)
    assert crossed_interval(found) == pytest.approx(tuple(theirs.confidence_interval()), abs=EXACT)


def test_tasks_that_do_not_matter_leave_welchs_t_test_of_the_seeds() -> None:
    before, after = np.array([0.1, 0.25, 0.3, 0.05]), np.array([0.5, 0.9, 0.2, 0.4])
    results = np.stack([np.tile(seeds[:, None], (1, 20)) for seeds in (before, after)])
    found = crossed(results, [-1.0, 1.0])
    theirs = scipy.stats.ttest_ind(after, before, equal_var=False)
    assert found.degrees == pytest.approx(theirs.df, abs=EXACT)
    assert crossed_p(found) == pytest.approx(theirs.pvalue, abs=EXACT)
    assert crossed_interval(found) == pytest.approx(tuple(theirs.confidence_interval()), abs=EXACT)


def test_results_that_are_all_the_same_get_the_interval_of_that_many_tasks() -> None:
    results = np.ones((3, 20))
    mine = crossed_share_interval(crossed(results[None]), results)
    assert mine is not None and mine == share_interval(np.ones(20)) and mine.low < 0.9
    assert crossed_p(crossed(np.zeros((1, 3, 20)))) == 1.0
    assert crossed_p(crossed(np.full((1, 3, 20), 0.5))) == 2.0**-19


@pytest.mark.parametrize("of_seeds", [0.0, 0.05, 0.15])
def test_differences_over_three_seeds_hold_the_truth_where_those_over_tasks_do_not(of_seeds: float) -> None:
    held = tasks_alone = 0
    for number in range(600):
        one = table(number, 3, 60, of_seeds=of_seeds, of_tasks=0.1)
        two = table(number + 10_000, 3, 60, of_seeds=of_seeds, of_tasks=0.1)
        low, high = crossed_interval(crossed(np.stack([one, two]), [-1.0, 1.0]))
        held += low <= 0 <= high
        alone = mean_interval(two[0] - one[0])
        assert alone is not None
        tasks_alone += alone.low <= 0 <= alone.high
    assert held / 600 > 0.935
    assert (tasks_alone / 600 < 0.8) == (of_seeds > 0)


def test_the_chance_of_the_trials_is_told_from_the_rest() -> None:
    generator = np.random.default_rng(4)
    trials = np.full(20_000, 4.0)
    successes = generator.binomial(4, 0.7, 20_000).astype(float)
    found = trial_variance(successes, trials)
    assert found == pytest.approx(0.7 * 0.3 / 4, rel=0.02)
    assert found == pytest.approx(float((successes / trials).var(ddof=1)), rel=0.02)
    assert trial_variance(np.ones(3), np.ones(3)) is None


def test_more_tasks_do_not_make_up_for_few_seeds() -> None:
    seeds_differ = crossed(table(1, 3, 50, of_seeds=0.3, of_tasks=0.1)[None] - 0.5)
    assert crossed_p(seeds_differ) > 0.05 and tasks_needed_with_seeds(seeds_differ) is None


def test_with_seeds_that_are_alike_the_tasks_needed_are_those_without() -> None:
    changes = np.random.default_rng(1).normal(0.05, 0.3, 200)
    found = crossed(np.tile(changes, (3, 1))[None])
    needed, theirs = tasks_needed_with_seeds(found), tasks_needed(found.value, float(changes.std(ddof=1)))
    assert needed == pytest.approx(theirs, rel=0.02)
    assert detectable_with_seeds(found) == pytest.approx(detectable(float(changes.std(ddof=1)), 200), rel=0.01)


def test_no_difference_needs_no_number_of_tasks() -> None:
    nothing = crossed(np.zeros((1, 2, 5)))
    assert tasks_needed_with_seeds(nothing) is None and detectable_with_seeds(nothing) is None
