"""Intervals: the same as a second library where it has them, and honest in simulations."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st

from agent_sft.evals.intervals import (
    Interval,
    contrast_interval,
    mean_interval,
    ratio_interval,
    share_interval,
    t_quantile,
    wilson,
)

EXACT = 1e-9
DRAWS = 10_000
"""Enough that chance alone moves a coverage of 95 % by no more than half a percent."""


def level_of_t(tasks: int) -> float:
    """The level at which a normal quantile equals the t quantile of so many tasks."""
    return float(2 * scipy.stats.norm.sf(scipy.stats.t.ppf(0.975, tasks - 1)))


def xs(generator: np.random.Generator, tasks: int, trials: int, mean: float, spread: float, k: int) -> np.ndarray:
    """pass^k of the tasks of one draw: each task has its own chance of success, from a beta distribution."""
    chances = generator.beta(mean * spread, (1 - mean) * spread, tasks)
    values = np.array([comb(count, k) / comb(trials, k) for count in range(trials + 1)])
    return values[generator.binomial(trials, chances)]


@pytest.mark.slow
@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (1, 29), (15, 148), (81, 263), (56, 56), (30, 60)])
def test_wilson_is_that_of_statsmodels(successes: int, trials: int) -> None:
    from statsmodels.stats.proportion import proportion_confint

    ours = wilson(successes / trials, trials, float(scipy.stats.norm.ppf(0.975)))
    theirs = proportion_confint(successes, trials, method="wilson")
    assert ours == pytest.approx(theirs, abs=EXACT)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_examples(successes: int, trials: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3."""
    ours = wilson(successes / trials, trials, float(scipy.stats.norm.ppf(0.975)))
    assert [round(end, 4) for end in ours] == [low, high]


@pytest.mark.parametrize("trials", [2, 4])
def test_the_spread_is_that_of_a_regression_clustered_by_task(trials: int) -> None:
    """The variance behind the interval is statsmodels' cluster-robust one of all single trials."""
    from statsmodels.regression.linear_model import OLS
    from statsmodels.stats.proportion import proportion_confint

    generator = np.random.default_rng(4)
    tasks = 40
    chances = generator.beta(1, 1, tasks)
    single = (generator.random((tasks, trials)) < chances[:, None]).astype(float)
    fitted = OLS(single.ravel(), np.ones(single.size)).fit(
        cov_type="cluster", cov_kwds={"groups": np.repeat(np.arange(tasks), trials)}
    )
    mean, error = float(fitted.params[0]), float(fitted.bse[0])
    size = mean * (1 - mean) / error**2
    theirs = proportion_confint(mean * size, size, alpha=level_of_t(tasks), method="wilson")
    assert share_interval(single.mean(axis=1)) == pytest.approx(theirs, abs=EXACT)


def test_a_ratio_has_the_spread_of_a_regression_clustered_by_task() -> None:
    from statsmodels.regression.linear_model import OLS
    from statsmodels.stats.proportion import proportion_confint

    generator = np.random.default_rng(5)
    calls = generator.integers(1, 9, 30)
    valid = generator.binomial(calls, generator.beta(8, 1, 30))
    single = np.concatenate(
        [np.r_[np.ones(good), np.zeros(all_ - good)] for good, all_ in zip(valid, calls, strict=True)]
    )
    fitted = OLS(single, np.ones(single.size)).fit(
        cov_type="cluster",
        cov_kwds={"groups": np.repeat(np.arange(30), calls), "use_correction": False},
    )
    ratio, error = float(fitted.params[0]), float(fitted.bse[0]) * (30 / 29) ** 0.5
    size = ratio * (1 - ratio) / error**2
    theirs = proportion_confint(ratio * size, size, alpha=level_of_t(30), method="wilson")
    assert ratio_interval(valid, calls) == pytest.approx(theirs, abs=EXACT)


def test_a_mean_of_numbers_is_that_of_statsmodels() -> None:
    from statsmodels.stats.weightstats import DescrStatsW

    values = np.random.default_rng(6).gamma(2, 3, 25)
    assert mean_interval(values) == pytest.approx(DescrStatsW(values).tconfint_mean(), abs=EXACT)


def test_a_difference_of_uncorrelated_variants_is_newcombes() -> None:
    """Four kinds of tasks in equal numbers per margin: no correlation, so it is Newcombe's unpaired method 10."""
    from statsmodels.stats.proportion import confint_proportions_2indep

    rows = [(1, 1)] * 6 + [(1, 0)] * 9 + [(0, 1)] * 4 + [(0, 0)] * 6
    table = np.array(rows, dtype=float)
    size = len(rows) - 1  # sd^2 has T - 1
    theirs = confint_proportions_2indep(
        10 / 25 * size, size, 15 / 25 * size, size, method="newcomb", compare="diff", alpha=level_of_t(25)
    )
    ours = contrast_interval(table, (-1.0, 1.0))
    assert ours == pytest.approx(theirs, abs=EXACT)


def test_a_contrast_of_two_settings_one_apart_is_their_difference() -> None:
    table = np.column_stack([xs(np.random.default_rng(mean), 30, 4, mean / 10, 2, 1) for mean in (4, 6)])
    assert contrast_interval(table, (-1.0, 1.0)) == pytest.approx(contrast_interval(table, (-1, 1)), abs=EXACT)
    flipped = contrast_interval(table[:, ::-1], (-1.0, 1.0))
    ours = contrast_interval(table, (-1.0, 1.0))
    assert flipped is not None
    assert ours is not None
    assert (-flipped.high, -flipped.low) == pytest.approx(ours, abs=EXACT)


def test_fewer_than_two_tasks_have_no_interval() -> None:
    assert share_interval([0.5]) is None
    assert mean_interval([]) is None
    assert ratio_interval([3, 0], [4, 0]) is None
    assert contrast_interval(np.ones((1, 2)), (-1.0, 1.0)) is None


def test_tasks_that_all_agree_leave_open_what_so_many_tasks_leave_open() -> None:
    none = share_interval([0.0] * 60)
    assert none is not None
    assert none.low == 0
    assert none.high == pytest.approx(t_quantile(60) ** 2 / (60 + t_quantile(60) ** 2), abs=EXACT)
    same = contrast_interval(np.full((60, 2), 0.5), (-1.0, 1.0))
    assert same == pytest.approx((-none.high, none.high), abs=EXACT)


shares = st.lists(st.sampled_from([0, 0.25, 0.5, 0.75, 1]), min_size=2, max_size=80)


@given(shares)
def test_an_interval_holds_its_mean_and_stays_between_0_and_1(values: list[float]) -> None:
    found = share_interval(values)
    assert found is not None
    assert 0 <= found.low <= np.mean(values) + 1e-12
    assert np.mean(values) - 1e-12 <= found.high <= 1
    assert found.low < found.high


@given(shares)
def test_failures_and_successes_are_treated_alike(values: list[float]) -> None:
    found, mirrored = share_interval(values), share_interval([1 - value for value in values])
    assert found is not None
    assert mirrored is not None
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx(found, abs=EXACT)


@given(shares, st.randoms(use_true_random=False))
def test_a_difference_lies_in_its_interval(values: list[float], random: object) -> None:
    other = list(reversed(values))
    found = contrast_interval(np.array([values, other]).T, (-1.0, 1.0))
    assert found is not None
    assert found.low - 1e-9 <= np.mean(other) - np.mean(values) <= found.high + 1e-9


def covered(interval: Interval | None, truth: float) -> bool:
    assert interval is not None
    return interval.low <= truth <= interval.high


def truth_of(mean: float, spread: float, k: int) -> float:
    """E[p^k] of a beta distribution."""
    a, b = mean * spread, (1 - mean) * spread
    return float(np.prod([(a + i) / (a + b + i) for i in range(k)]))


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [50, 60, 114])
@pytest.mark.parametrize("mean", [0.1, 0.3, 0.5, 0.8, 0.9])
def test_the_interval_holds_the_truth_as_often_as_it_says(tasks: int, mean: float) -> None:
    """4 trials of each task, pass^1, tasks that differ a lot in how hard they are."""
    generator = np.random.default_rng(0)
    held = [covered(share_interval(xs(generator, tasks, 4, mean, 2.0, 1)), mean) for _ in range(DRAWS)]
    assert 0.94 <= np.mean(held) <= 0.96


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [20, 60, 114])
def test_whatever_the_truth_is_the_interval_holds_it_as_often_as_it_says(tasks: int) -> None:
    """4 trials of each task, pass^1; every truth from 0 to 1 is as likely as another."""
    generator = np.random.default_rng(0)
    truths = generator.uniform(size=DRAWS)
    held = [covered(share_interval(xs(generator, tasks, 4, mean, 2.0, 1)), mean) for mean in truths]
    assert 0.94 <= np.mean(held) <= 0.96


@pytest.mark.slow
@pytest.mark.parametrize(("k", "first", "last"), [(1, 0.01, 0.1), (4, 0.1, 0.4), (1, 0.9, 0.99)])
def test_the_interval_is_honest_near_0_and_1_where_few_values_are_possible(k: int, first: float, last: float) -> None:
    """With a success or two in 60 tasks, some truths are held 92 or 98 times in 100: what counts is their average."""
    generator = np.random.default_rng(0)
    held, usual = [], []
    for mean in np.linspace(first, last, DRAWS):
        values, truth = xs(generator, 60, 4, mean, 2.0, k), truth_of(mean, 2.0, k)
        held.append(covered(share_interval(values), truth))
        usual.append(covered(mean_interval(values), truth))
    assert 0.94 <= np.mean(held) <= 0.97
    assert np.mean(usual) < 0.92, "mean +- t * SE is not good enough here: that is why there is another"


@pytest.mark.slow
@pytest.mark.parametrize(("mean", "gain"), [(0.5, 0.0), (0.5, 0.15), (0.8, 0.1), (0.1, 0.05)])
def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says(mean: float, gain: float) -> None:
    generator = np.random.default_rng(0)
    held = []
    for _ in range(DRAWS // 4):
        before = generator.beta(mean * 2, (1 - mean) * 2, 60)
        # The same tasks, easier by a chance of their own: its mean is gain / (1 - mean) of what was missing.
        after = before + (1 - before) * generator.beta(1, (1 - mean) / gain - 1, 60) if gain else before
        table = np.column_stack([generator.binomial(4, before) / 4, generator.binomial(4, after) / 4])
        held.append(covered(contrast_interval(table, (-1.0, 1.0)), gain))
    assert 0.94 <= np.mean(held) <= 0.96
