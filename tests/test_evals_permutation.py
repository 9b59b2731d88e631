"""p-values of permutation within tasks, against published numbers and scipy."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_sft.evals import permutation
from agent_sft.evals.permutation import permutation_p

EXACT = 1e-9
FLIP = (Fraction(-1), Fraction(1))
DARWIN = (49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)
"""Darwin's maize: cross-fertilised less self-fertilised, in eighths of an inch."""


def pairs(differences: tuple[int, ...]) -> list[tuple[Fraction, Fraction]]:
    return [(Fraction(0), Fraction(difference)) for difference in differences]


def test_fishers_example() -> None:
    """Fisher 1935, The Design of Experiments, section 21: 863 of 2^15 orders in each tail."""
    assert permutation_p(pairs(DARWIN), FLIP) == pytest.approx(2 * 863 / 2**15, abs=EXACT)


def test_fishers_example_drawn() -> None:
    drawn = permutation_p([(0.0, float(difference)) for difference in DARWIN], FLIP)
    assert drawn == pytest.approx(2 * 863 / 2**15, abs=0.002)
    assert drawn == permutation_p([(0.0, float(difference)) for difference in DARWIN], FLIP), "the seed is fixed"


quarters = st.integers(0, 4).map(lambda count: Fraction(count, 4))


@settings(max_examples=40)
@given(st.lists(st.tuples(quarters, quarters), min_size=2, max_size=9))
@pytest.mark.slow
def test_the_sign_flip_test_is_scipys(results: list[tuple[Fraction, Fraction]]) -> None:
    differences = np.array([float(after - before) for before, after in results])
    theirs = scipy.stats.permutation_test(
        (differences,),
        lambda values, axis: values.sum(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert permutation_p(results, FLIP) == pytest.approx(theirs.pvalue, abs=EXACT)


@settings(max_examples=15)
@given(st.lists(st.tuples(quarters, quarters, quarters), min_size=2, max_size=4))
def test_a_trend_is_scipys_permutation_within_tasks(results: list[tuple[Fraction, ...]]) -> None:
    weights = (Fraction(-5), Fraction(-1), Fraction(6))
    columns = [np.array([float(value) for value in column]) for column in zip(*results, strict=True)]

    def statistic(*samples: np.ndarray, axis: int) -> Any:
        # Grids of quarters: what is equal stays equal.
        sums = [float(w) * sample.sum(axis=axis) for w, sample in zip(weights, samples, strict=True)]
        return np.abs(np.sum(sums, axis=0))

    theirs = scipy.stats.permutation_test(
        columns, statistic, permutation_type="samples", n_resamples=np.inf, alternative="greater", vectorized=True
    )
    assert permutation_p(results, weights) == pytest.approx(theirs.pvalue, abs=EXACT)


def test_hundreds_of_tasks_are_still_exact() -> None:
    """With one trial a task it is McNemar's exact test: the discordant tasks are coins."""
    rows = [(Fraction(0), Fraction(1))] * 60 + [(Fraction(1), Fraction(0))] * 35 + [(Fraction(1), Fraction(1))] * 300
    assert permutation_p(rows, FLIP) == pytest.approx(scipy.stats.binomtest(60, 95).pvalue, abs=EXACT)


def test_variants_that_agree_everywhere_give_no_reason_to_tell_them_apart() -> None:
    assert permutation_p([(Fraction(1), Fraction(1))] * 5, FLIP) == 1.0


def test_the_unit_of_the_setting_does_not_matter() -> None:
    rows = [(Fraction(4 - i % 3, 4), Fraction(2, 4), Fraction(i % 2, 4), Fraction(0)) for i in range(12)]
    small = permutation_p(rows, [Fraction(w, 100) for w in (-35, -15, 5, 45)])
    assert small == permutation_p(rows, [Fraction(w) for w in (-7, -3, 1, 9)])


def test_many_variants_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    rows = [tuple(Fraction(int(v), 4) for v in generator.integers(0, 5, 4)) for _ in range(8)]
    weights = [Fraction(w) for w in (-3, -1, 1, 3)]
    exact = permutation_p(rows, weights)
    monkeypatch.setattr(permutation, "MAX_WORK", 10)
    assert permutation_p(rows, weights) == pytest.approx(exact, abs=0.01)
    monkeypatch.undo()
    monkeypatch.setattr(permutation, "MAX_GRID", 10)
    assert permutation_p(rows, weights) == pytest.approx(exact, abs=0.01)
