"""The numbers of one evaluation."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_sft.errors import UserError
from agent_sft.evals.outcomes import Measure, measures, parse_measure, pass_at, pass_hat
from agent_sft.evals.results import write_evaluation, write_trial
from agent_sft.evals.statistics import Estimate, Group, summarise
from tests.evaluations import evaluation, trial, written


def found(group: Group, measure: str) -> Estimate:
    return next(one for one in group.estimates if one.measure == measure)


@pytest.mark.parametrize("trials", range(1, 7))
def test_pass_k_counts_the_sets_of_k_trials(trials: int) -> None:
    for successes in range(trials + 1):
        scores = [True] * successes + [False] * (trials - successes)
        for k in range(1, trials + 1):
            sets = list(combinations(scores, k))
            assert pass_hat(successes, trials, k) == Fraction(sum(map(all, sets)), len(sets))
            assert pass_at(successes, trials, k) == Fraction(sum(map(any, sets)), len(sets))


@given(st.integers(1, 200), st.data())
def test_pass_at_k_is_the_published_program(trials: int, data: st.DataObject) -> None:
    """Chen et al. 2021, figure 3: 1 - prod(1 - k / arange(n - c + 1, n + 1))."""
    successes, k = data.draw(st.integers(0, trials)), data.draw(st.integers(1, trials))
    theirs = 1.0
    if trials - successes >= k:
        theirs = 1 - float(np.prod(1 - k / np.arange(trials - successes + 1, trials + 1)))
    assert float(pass_at(successes, trials, k)) == pytest.approx(theirs, abs=1e-9)


def test_the_mean_is_over_tasks(tmp_path: Path) -> None:
    written(tmp_path, {"a": [1, 1, 1, 1], "b": [1, 1, 0, 0], "c": [0, 0, 0, 0]})
    overall = summarise(tmp_path).overall
    values = {one.measure: one.value for one in overall.estimates}
    assert values == pytest.approx(
        {
            "pass^1": 0.5,
            "pass^2": (1 + 1 / 6) / 3,
            "pass^3": 1 / 3,
            "pass^4": 1 / 3,
            "pass@2": (1 + 5 / 6) / 3,
            "pass@3": 2 / 3,
            "pass@4": 2 / 3,
        }
    )
    assert {one.tasks for one in overall.estimates} == {3}


def test_what_the_infrastructure_failed_is_not_wrong_and_not_forgotten(tmp_path: Path) -> None:
    written(tmp_path, {"a": [1, 1], "b": [1, None], "c": [None, None], "d": [0]})
    summary = summarise(tmp_path)
    overall = summary.overall
    assert (overall.tasks, overall.trials, overall.scored, overall.failed, overall.unfinished) == (4, 8, 4, 3, 1)
    first = found(overall, "pass^1")
    assert first.value == pytest.approx(2 / 3)
    assert first.tasks == 3
    assert first.if_wrong == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert first.if_right == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert found(overall, "pass^2").tasks == 1
    notes = "\n".join(summary.notes)
    assert "4 of 8 trials have no score" in notes
    assert "1 were not run yet" in notes
    assert "3 were failed by the infrastructure" in notes
    assert "pass^1 1, pass^2 3" in notes


def test_nothing_run_yet_is_reported_as_such(tmp_path: Path) -> None:
    write_evaluation(tmp_path, evaluation())
    summary = summarise(tmp_path)
    assert found(summary.overall, "pass^1").value is None
    assert "4 of 4 trials have no score" in summary.notes[0]


def test_families_are_told_apart(tmp_path: Path) -> None:
    families = {"a": "allowed", "b": "forbidden", "c": "forbidden"}
    written(tmp_path, {"a": [1, 1], "b": [0, 0], "c": [1, 0]}, families=families)
    summary = summarise(tmp_path)
    assert [(group.family, group.tasks, group.trials) for group in summary.families] == [
        ("allowed", 1, 2),
        ("forbidden", 2, 4),
    ]
    assert [found(group, "pass^1").value for group in summary.families] == [1, 0.25]
    assert found(summary.families[0], "pass^1").low is None


def test_calls_turns_and_violations(tmp_path: Path) -> None:
    write_evaluation(tmp_path, evaluation())
    write_trial(tmp_path, trial("a", 0, turns=4, tool_calls=10, tool_errors=1, violations=2))
    write_trial(tmp_path, trial("a", 1, turns=6, tool_calls=0, violations=0))
    write_trial(tmp_path, trial("b", 0, turns=9, tool_calls=10, tool_errors=4, violations=0))
    write_trial(tmp_path, trial("b", 1, None, turns=99, tool_calls=99, violations=9))
    overall = summarise(tmp_path).overall
    assert overall.violations == 2
    assert found(overall, "with a violation").value == pytest.approx(0.25)
    assert found(overall, "valid tool calls").value == pytest.approx(15 / 20)
    assert found(overall, "turns").value == pytest.approx((5 + 9) / 2)


def test_what_was_not_measured_is_not_shown(tmp_path: Path) -> None:
    names = {one.measure for one in summarise(written(tmp_path, {"a": [1], "b": [0]})).overall.estimates}
    assert names == {"pass^1"}


def test_partly_right_answers_have_a_mean_score(tmp_path: Path) -> None:
    overall = summarise(written(tmp_path, {"a": [0.5, 1], "b": [0, 0.1]})).overall
    assert found(overall, "score").value == pytest.approx((0.75 + 0.05) / 2)
    assert found(overall, "pass^1").value == pytest.approx(0.25)


def test_a_score_is_held_against_doing_nothing(tmp_path: Path) -> None:
    scores = {f"t{number}": [float(number < 8)] for number in range(20)}
    notes = summarise(written(tmp_path, scores, floor=0.38)).notes
    assert "an agent that does nothing scores 0.380 here" in notes
    assert "pass^1 cannot be told from that" in notes
    assert len(summarise(written(tmp_path / "low", scores, floor=0.01)).notes) == 1


def test_many_trials_are_reported_at_powers_of_two() -> None:
    assert [str(measure) for measure in measures(1)] == ["pass^1"]
    assert [measure.k for measure in measures(20) if measure.kind == "^"] == [1, 2, 3, 4, 8, 16, 20]


def test_measures_are_named(tmp_path: Path) -> None:
    assert parse_measure("pass@3") == Measure("@", 3)
    assert str(parse_measure("score")) == "score"
    for wrong in ("pass", "pass^0", "pass-2", "accuracy"):
        with pytest.raises(UserError, match="no measure"):
            parse_measure(wrong)
