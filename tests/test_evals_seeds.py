"""Variants with several training seeds, compared."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from agent_sft.errors import UserError
from agent_sft.evals.comparison import compare
from agent_sft.evals.results import read_results
from agent_sft.evals.seeds import compare_seeds, estimate_group
from agent_sft.evals.statistics import summarise
from tests.evaluations import written

EXACT = 1e-9

Groups = dict[str, dict[int, Path]]


def sweep(folder: Path, chances: dict[str, float], *, seeds: int = 3, tasks: int = 30, of_seeds: float = 0.0) -> Groups:
    """Evaluations of variants with these chances of success; a seed moves a variant's by chance."""
    groups: Groups = {}
    for name, chance in chances.items():
        for seed in range(1, seeds + 1):
            generator = np.random.default_rng([seed, int(chance * 1000)])
            moved = float(np.clip(chance + generator.normal(0, of_seeds), 0, 1))
            scores = {f"t{task}": [float(v) for v in generator.random(4) < moved] for task in range(tasks)}
            families = {f"t{task}": "odd" if task % 2 else "even" for task in range(tasks)}
            groups.setdefault(name, {})[seed] = written(folder / f"{name}-{seed}", scores, families=families)
    return groups


def successes(folder: Path) -> float:
    """The share of an evaluation's trials that succeeded; every task has as many."""
    _, trials = read_results(folder)
    return sum(trial.succeeded for trial in trials) / len(trials)


ORDER = {"a": Fraction(0), "b": Fraction(10), "c": Fraction(20)}


def test_a_falling_score_is_told_over_seeds_and_tasks(tmp_path: Path) -> None:
    groups = sweep(tmp_path, {"a": 0.95, "b": 0.8, "c": 0.65})
    found = compare_seeds(groups, baseline="a", order=ORDER)
    assert found.seeds == 3 and found.tasks == 30
    assert found.trend is not None and found.trend.verdict == "falls" and found.trend.p < 0.01
    assert [one.verdict for one in found.differences] == ["worse", "worse"]
    means = {name: np.mean([successes(folder) for folder in folders.values()]) for name, folders in groups.items()}
    assert {one.folder: one.value for one in found.variants} == pytest.approx(means, abs=EXACT)
    assert found.trend.slope == pytest.approx((means["c"] - means["a"]) / 20, abs=EXACT)


def test_what_is_sure_of_these_models_need_not_hold_for_other_seeds(tmp_path: Path) -> None:
    """Of each single seed's models the tasks tell something, one way or the other; of the setting they do not."""
    groups = sweep(tmp_path, {"a": 0.71, "b": 0.7}, of_seeds=0.25, tasks=60)
    alone = [compare([groups["a"][seed], groups["b"][seed]]).differences[0] for seed in (1, 2, 3)]
    assert any(one.verdict != "cannot tell" for one in alone)
    found = compare_seeds(groups, baseline="a").differences[0]
    assert found.verdict == "cannot tell"
    assert found.low is not None and found.high is not None
    widest = max(one.high - one.low for one in alone if one.high is not None and one.low is not None)
    assert found.high - found.low > widest


def test_variants_that_agree_everywhere_are_a_tie(tmp_path: Path) -> None:
    groups = sweep(tmp_path, {"a": 1.0, "b": 1.0})
    one = compare_seeds(groups, baseline="a").differences[0]
    assert one.value == 0 and one.p == 1.0 and one.verdict == "cannot tell" and one.tasks_needed is None
    assert one.low is not None and one.low < 0


def test_a_seed_that_a_variant_lacks_is_left_out_and_said_to_be(tmp_path: Path) -> None:
    groups = sweep(tmp_path, {"a": 0.9, "b": 0.8})
    del groups["b"][3]
    found = compare_seeds(groups, baseline="a")
    assert found.seeds == 2
    assert any("left out: 3" in note for note in found.notes)
    del groups["b"][2]
    with pytest.raises(UserError, match="fewer than two seeds"):
        compare_seeds(groups, baseline="a")


def test_a_group_has_one_mean_and_tells_where_its_spread_comes_from(tmp_path: Path) -> None:
    groups = sweep(tmp_path, {"a": 0.7}, of_seeds=0.2)
    found = estimate_group("a", groups["a"])
    assert found.estimate.value == pytest.approx(np.mean(list(found.by_seed.values())), abs=EXACT)
    assert found.crossed is not None and found.trials is not None
    assert found.crossed.from_seeds > found.crossed.from_tasks
    odd = estimate_group("a", groups["a"], family="odd")
    assert odd.estimate.tasks == 15
    single = estimate_group("a", {1: groups["a"][1]})
    assert single.crossed is None
    assert single.estimate.low == summarise(groups["a"][1]).overall.estimates[0].low
