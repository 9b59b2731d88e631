"""Variants compared on the same tasks."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy

from agent_sft.errors import UserError
from agent_sft.evals.comparison import compare, holm
from tests.evaluations import written

EXACT = 1e-9


def scores(seed: int, shift: float, tasks: int = 40, trials: int = 4) -> dict[str, list[float]]:
    chances = np.clip(np.random.default_rng(7).beta(1, 1, tasks) + shift, 0, 1)
    found = np.random.default_rng(seed).random((tasks, trials)) < chances[:, None]
    return {f"t{number}": [float(one) for one in row] for number, row in enumerate(found)}


@pytest.fixture
def variants(tmp_path: Path) -> list[Path]:
    return [written(tmp_path / f"v{number}", scores(number, -0.25 * number)) for number in range(3)]


@pytest.mark.slow
def test_holm_is_that_of_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    for seed in range(5):
        p_values = np.random.default_rng(seed).random(6) ** 3
        theirs = multipletests(p_values, method="holm")[1]
        assert holm(list(p_values)) == pytest.approx(list(theirs), abs=EXACT)
    assert holm([]) == []


@pytest.mark.slow
def test_a_difference_is_that_of_the_same_tasks(variants: list[Path]) -> None:
    comparison = compare(variants[:2])
    (one,) = comparison.differences
    means = [np.array([np.mean(row) for row in scores(n, -0.25 * n).values()]) for n in (0, 1)]
    change = means[1] - means[0]
    assert one.value == pytest.approx(change.mean(), abs=EXACT)
    assert comparison.tasks == 40
    assert len(one.gained) == (change > 0).sum()
    assert len(one.lost) == (change < 0).sum()
    assert one.same == (change == 0).sum()
    assert one.low is not None
    assert one.high is not None
    assert one.low < one.value < one.high
    theirs = scipy.stats.permutation_test((change,), np.sum, permutation_type="samples", n_resamples=20_000, rng=1)
    assert one.p == pytest.approx(theirs.pvalue, abs=0.01)
    assert one.p_corrected == one.p
    assert one.verdict == "worse"


def test_several_variants_are_corrected_and_any_can_be_the_baseline(variants: list[Path]) -> None:
    comparison = compare(variants, baseline=variants[1])
    assert [one.variant for one in comparison.differences] == [str(variants[0]), str(variants[2])]
    assert comparison.baseline == str(variants[1])
    assert [one.p_corrected for one in comparison.differences] == holm([one.p for one in comparison.differences])
    assert comparison.differences[0].verdict == "better"


def test_the_same_results_cannot_be_told_apart(tmp_path: Path) -> None:
    folders = [written(tmp_path / name, scores(1, 0)) for name in "ab"]
    (one,) = compare(folders).differences
    assert (one.value, one.p, one.verdict, one.tasks_needed) == (0, 1, "cannot tell", None)
    assert one.low is not None
    assert one.low < -0.05, "that 40 tasks came out the same does not say that all would"


def test_a_trend_over_an_ordered_setting(variants: list[Path]) -> None:
    trend = compare(variants, order=[Fraction(0), Fraction(10), Fraction(20)]).trend
    assert trend is not None
    means = [np.array([np.mean(row) for row in scores(n, -0.25 * n).values()]) for n in range(3)]
    slopes = [np.polyfit([0, 10, 20], row, 1)[0] for row in np.array(means).T]
    assert trend.slope == pytest.approx(np.mean(slopes), abs=EXACT)
    assert trend.low is not None
    assert trend.high is not None
    assert trend.low < trend.slope < trend.high < 0
    assert trend.p < 0.001
    assert trend.verdict == "falls"
    turned = compare(variants, order=[Fraction(20), Fraction(10), Fraction(0)]).trend
    assert turned is not None
    assert turned.slope == pytest.approx(-trend.slope)
    assert turned.p == pytest.approx(trend.p)
    assert turned.verdict == "rises"


def test_other_measures_and_families(tmp_path: Path) -> None:
    rows: list[dict[str, list[float | None]]] = [
        {"a": [1, 1], "b": [1, 0], "c": [0, 0]},
        {"a": [1, 0], "b": [0, 0.5], "c": [1, 1]},
    ]
    families = {"a": "x", "b": "x", "c": "y"}
    folders = [written(tmp_path / str(number), row, families=families) for number, row in enumerate(rows)]
    assert compare(folders, measure="pass^2").differences[0].value == pytest.approx(0)
    assert compare(folders, measure="pass@2").differences[0].value == pytest.approx((2 - 2) / 3)
    assert compare(folders, measure="score").differences[0].value == pytest.approx((0.5 + 0.25 + 1) / 3 - 0.5)
    assert compare(folders, family="x").differences[0].lost == ["a", "b"]
    with pytest.raises(UserError, match="there are x, y"):
        compare(folders, family="other")
    with pytest.raises(UserError, match="there are 2"):
        compare(folders, measure="pass^3")


def test_tasks_without_scores_are_left_out_aloud(tmp_path: Path) -> None:
    a = written(tmp_path / "a", {"a": [1, 1], "b": [1, 0], "c": [0, 0]})
    b = written(tmp_path / "b", {"a": [0, 0], "b": [None, None], "c": [1]})
    comparison = compare([a, b])
    assert comparison.tasks == 2
    assert any("1 of 3 tasks are left out" in note for note in comparison.notes)
    assert any("3 of the 6 trials" in note for note in comparison.notes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"benchmark": "other"}, "benchmark"),
        ({"user_model": "openai/gpt-4.1"}, "user model: none in"),
        ({"limits": {"max_messages": 5}}, "max_messages 20"),
        ({"evaluator": "inspect"}, "evaluator"),
    ],
)
def test_what_cannot_be_compared_is_refused_until_it_is_insisted_on(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    folders = [written(tmp_path / "a", scores(1, 0)), written(tmp_path / "b", scores(2, 0), **changes)]
    with pytest.raises(UserError, match="--despite-differences") as refused:
        compare(folders)
    assert said in str(refused.value)
    assert any(said in note for note in compare(folders, despite_differences=True).notes)


def test_other_trials_settings_and_equal_weights_are_said(tmp_path: Path) -> None:
    a = written(tmp_path / "a", scores(1, 0), model_digest="sha256:1")
    b = written(tmp_path / "b", scores(1, 0, trials=2), settings={"temperature": 1}, model_digest="sha256:1")
    notes = "\n".join(compare([a, b]).notes)
    assert "trials: 4" in notes
    assert "temperature 1" in notes
    assert "same weights" in notes


def test_other_tasks_are_refused_until_the_common_ones_are_asked_for(tmp_path: Path) -> None:
    a = written(tmp_path / "a", {"a": [1], "b": [1], "c": [0]})
    b = written(tmp_path / "b", {"b": [0], "c": [0], "d": [1]})
    with pytest.raises(UserError, match="--common-tasks compares on the 2"):
        compare([a, b])
    comparison = compare([a, b], common_tasks=True)
    assert comparison.tasks == 2
    assert sum("left out" in note for note in comparison.notes) == 2
    c = written(tmp_path / "c", {"x": [0]})
    with pytest.raises(UserError, match="they share none"):
        compare([a, c], common_tasks=True)


def test_a_request_that_makes_no_sense_is_refused(variants: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to compare"):
        compare(variants[:1])
    with pytest.raises(UserError, match="named twice"):
        compare([variants[0], f"{variants[0]}/."])
    with pytest.raises(UserError, match="not among the folders"):
        compare(variants[:2], baseline=tmp_path)
    with pytest.raises(UserError, match="2 settings for 3"):
        compare(variants, order=[Fraction(1), Fraction(2)])
    with pytest.raises(UserError, match="all settings are the same"):
        compare(variants, order=[Fraction(1)] * 3)
    with pytest.raises(UserError, match="no task has a score"):
        compare([variants[0], written(tmp_path / "dead", {task: [None] for task in scores(0, 0)})])
