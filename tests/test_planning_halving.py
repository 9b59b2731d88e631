"""The rungs of a search that stops those which fall behind."""

from __future__ import annotations

import pytest

from agent_sft.planning.halving import rungs_of
from agent_sft.report.plan.record import Candidate


def candidates(count: int, steps: int = 900, warm_up: int = 0) -> list[Candidate]:
    return [
        Candidate(number=n, name=f"c{n}", model="m", rank=8, rate=1e-4, epochs=3, batch=4, steps=steps, warm_up=warm_up)
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize(
    ("count", "steps", "rungs"),
    [
        (27, 2700, [(27, 100), (9, 300), (3, 900), (2, None)]),
        (9, 900, [(9, 100), (3, 300), (2, None)]),
        (4, 900, [(4, 300), (2, None)]),
        (3, 900, [(3, 300), (2, None)]),
        (2, 900, [(2, None)]),
        (1, 900, [(1, None)]),
    ],
)
def test_one_of_three_goes_on_every_rung_is_three_times_as_long_and_two_go_to_the_end(
    count: int, steps: int, rungs: list[tuple[int, int | None]]
) -> None:
    there = candidates(count, steps)
    assert [(rung.candidates, rung.step(there[0])) for rung in rungs_of(there)] == rungs


@pytest.mark.parametrize(
    ("count", "steps", "warm_up", "rungs"),
    [
        (9, 1000, 50, [(9, 112), (3, 334), (2, None)]),
        (9, 1000, 100, [(9, 200), (3, 448), (2, None)]),
        (9, 1000, 150, [(9, 300), (3, None)]),
        (9, 1000, 300, [(9, None)]),
        (9, 60, 0, [(9, 10), (3, 25), (2, None)]),
        (9, 20, 0, [(9, 10), (3, None)]),
        (9, 10, 0, [(9, None)]),
    ],
)
def test_the_first_rung_is_clear_of_the_warm_up_and_of_the_first_ten_steps(
    count: int, steps: int, warm_up: int, rungs: list[tuple[int, int | None]]
) -> None:
    there = candidates(count, steps, warm_up)
    assert [(rung.candidates, rung.step(there[0])) for rung in rungs_of(there)] == rungs


def test_trainings_of_other_lengths_stop_at_the_same_share() -> None:
    there = [*candidates(2), *candidates(1, 300)]
    first = rungs_of(there)[0]
    assert [first.step(one) for one in there] == [300, 300, 100]
