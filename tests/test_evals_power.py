"""How many tasks a difference takes."""

from __future__ import annotations

from math import ceil

import pytest

from agent_sft.evals.power import detectable, power, tasks_needed

EXACT = 1e-9


@pytest.mark.parametrize("effect", [0.05, 0.3, 0.8, 2.0])
@pytest.mark.parametrize("tasks", [2, 3, 10, 60])
def test_power_is_that_of_statsmodels(effect: float, tasks: int) -> None:
    from statsmodels.stats.power import TTestPower

    assert power(effect, tasks) == pytest.approx(TTestPower().power(effect, tasks, 0.05), abs=EXACT)


def test_power_far_out_is_certain() -> None:
    assert power(0.8, 500) == 1.0
    assert power(50, 60) == 1.0


@pytest.mark.parametrize(("difference", "deviation"), [(0.05, 0.3), (-0.1, 0.4), (0.12, 0.25), (0.9, 0.5)])
def test_the_tasks_needed_are_those_of_statsmodels(difference: float, deviation: float) -> None:
    from statsmodels.stats.power import TTestPower

    theirs = TTestPower().solve_power(abs(difference) / deviation, power=0.8, alpha=0.05)
    assert tasks_needed(difference, deviation) == ceil(theirs)


def test_the_smallest_difference_that_is_told_has_just_that_power() -> None:
    for tasks in (2, 5, 60, 278):
        least = detectable(0.3, tasks)
        assert least is not None
        assert power(least / 0.3, tasks) == pytest.approx(0.8, abs=1e-6)


def test_what_cannot_be_told_is_not() -> None:
    assert tasks_needed(0.0, 0.3) is None
    assert tasks_needed(0.00001, 0.3) is None
    assert detectable(0.0, 60) is None
    assert detectable(0.3, 1) is None
    assert tasks_needed(0.5, 0.0) == 2
