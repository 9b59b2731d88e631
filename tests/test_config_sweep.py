"""A sweep file: what it may hold, and what is said about what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_sft.config.sweep_file import read_sweep
from agent_sft.errors import UserError
from tests.sweep_plans import TASK, make_files, plan_of, read, write_sweep

SFT = {"input": "data.json", "model": "tiny"}


def test_defaults_then_the_file_then_flags(tmp_path: Path) -> None:
    path = write_sweep(
        tmp_path, data=["a.json"], sft={"epochs": 3, "set": {"max_samples": 5, "packing": True}}, retries=1
    )
    given = {"sft": {"epochs": 1.0, "set": {"max_samples": 9}}, "gpu_price": 2.5, "resources": {"jobs": 3}}
    config = read_sweep(path, given)
    assert config.sft == {"epochs": 1.0, "set": {"max_samples": 9, "packing": True}}
    assert (config.retries, config.gpu_price, config.resources.jobs, config.keep) == (1, 2.5, 3, "scored")


@pytest.mark.parametrize("keys", [{"data": ["a.json"], "seeds": [1, 2]}, {"models": ["http://here/v1"]}])
def test_a_resolved_sweep_can_be_read_again(
    keys: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_files(tmp_path, "a.json")
    resolved = plan_of(tmp_path, **keys).config
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(resolved.model_dump(mode="json")))
    assert read_sweep(again, {}) == resolved


def test_small_numbers_without_a_point_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "name: t\nsft: {set: {adam_epsilon: 1e-5}}\ndata: [a.json]\nevaluators: [{evaluator: loss, task: a}]\n"
    )
    assert read_sweep(path, {}).sft["set"] == {"adam_epsilon": 1e-5}


def test_a_seed_among_the_options_is_the_only_seed(tmp_path: Path) -> None:
    config = read(tmp_path, data=["a.json"], sft={"seed": 7})
    assert (config.seeds, config.sft) == ((7,), {})


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (["data/telecom_syc_*pct.json"], "telecom_syc_pct"),
        (["data/telecom_syc_{0,5,10,20}pct_500.json"], "telecom_syc_pct_500"),
        (["runs/*.json"], "sweep"),
        (["telecom@3"], "telecom"),
        ("data/a.json", "a"),
    ],
)
def test_a_sweep_by_flags_is_called_as_its_data(data: Any, name: str) -> None:
    assert read_sweep(None, {"data": data}, {"task": "my_task.py"}).name == name


def test_a_domain_is_that_of_inspect_evals_or_of_tau2_where_that_is_installed() -> None:
    given = {"data": ["a.json"]}
    inspect = read_sweep(None, given, {"domain": "telecom", "trials": 4}).evaluators[0]
    assert inspect.model_extra == {"evaluator": "inspect", "task": "inspect_evals/tau2_telecom", "trials": 4}
    tau2 = read_sweep(
        None, given, {"domain": "telecom", "tau2_dir": "clone", "user_model": "openai/gpt-4.1"}
    ).evaluators[0]
    assert tau2.model_extra == {
        "evaluator": "tau2",
        "task": "telecom",
        "params": {"tau2_dir": "clone"},
        "user_model": "openai/gpt-4.1",
    }
    assert (inspect.name, tau2.name) == ("telecom", "telecom")


def test_options_of_evaluations_are_laid_over_all_of_the_file(tmp_path: Path) -> None:
    both = [TASK, {"evaluator": "tau2", "task": "telecom", "params": {"tau2_dir": "old", "split": "base"}}]
    path = write_sweep(tmp_path, data=["a.json"], evaluators=both)
    first, second = read_sweep(path, {}, {"trials": 3, "tau2_dir": "new"}).evaluators
    assert first.model_extra == {**TASK, "trials": 3}
    assert second.model_extra is not None
    assert (second.model_extra["trials"], second.model_extra["params"]) == (3, {"tau2_dir": "new", "split": "base"})


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"trials": 3}, "--trials: there is no evaluator to give it to"),
        ({"domain": "telecom", "task": "x"}, "--domain: "),
        ({"task": "x.py", "tau2_dir": "clone"}, "--tau2-dir: no evaluator is tau2"),
    ],
)
def test_flags_of_evaluations_that_contradict(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_sweep(None, {"data": ["a.json"]}, flags)


@pytest.mark.parametrize(
    ("keys", "where", "said"),
    [
        ({}, "", "nothing to compare"),
        ({"dat": ["a.json"]}, "", "dat: extra inputs are not permitted\n  did you mean 'data'?"),
        ({"data": ["a.json"], "evaluators": []}, ", evaluators", "there is no evaluator"),
        ({"data": ["a.json"], "evaluators": [{"evaluator": "loss"}]}, ", evaluators.0", "--task is missing"),
        (
            {"data": ["a.json"], "evaluators": [{**TASK, "trails": 4}]},
            ", evaluators.0.trails",
            "did you mean 'trials'?",
        ),
        ({"data": ["a.json"], "evaluators": [{**TASK, "out": "x"}]}, ", evaluators.0.out", "decides this itself"),
        (
            {"data": ["a.json"], "evaluators": [{**TASK, "limits": {"time_limt": 4}}]},
            ", evaluators.0.limits.time_limt",
            "did you mean 'time_limit'?",
        ),
        ({"data": ["a.json"], "evaluators": [{**TASK, "time_limit": 4}]}, ", evaluators.0.time_limit", "of `limits`"),
        ({"data": ["a.json"], "evaluators": [{**TASK, "trials": 0}]}, ", evaluators.0.trials", "greater than 0"),
        ({"data": ["a.json"], "sft": {"epoch": 3}}, ", sft.epoch", "did you mean 'epochs'?"),
        ({"data": ["a.json"], "sft": {"epochs": "three"}}, ", sft.epochs", "valid number"),
        ({"data": ["a.json"], "sft": {"output_dir": "x"}}, ", sft.output_dir", "give `out`"),
        ({"data": ["a.json"], "sft": {"nnodes": 2}}, ", sft.nnodes", "nodes_per_train"),
        ({"data": ["a.json"], "sft": {"seed": 1}, "seeds": [1]}, ", sft.seed", "leave it out"),
        ({"data": ["a.json"], "sft": {"model": "tiny"}, "base": SFT}, ", sft.model", "starts from `base`"),
        ({"data": ["a.json"], "base": {"model": "tiny"}}, ", base", "no data was given"),
        ({"data": ["a.json"], "base": {**SFT, "lrr": 1}}, ", base.lrr", "no such option"),
        ({"data": ["a.json"], "seeds": [1, 2, 1]}, ", seeds", "'1' is given twice"),
        ({"data": ["a.json"], "seeds": []}, ", seeds", "no seed"),
        ({"data": ["a.json"], "resources": {"job": 3}}, "", "did you mean 'jobs'?"),
        ({"data": ["a.json"], "resources": {"ray_address": "a:1"}}, "", "give executor: ray"),
        ({"data": ["a.json"], "resources": {"nodes_per_train": 2}}, "", "give executor: ray"),
        ({"data": ["a.json"], "resources": {"executor": "ray", "gpus": [0]}}, "", "a cluster chooses its own"),
        ({"data": ["a.json"], "resources": {"executor": "ray", "cores": 2}}, "", "a cluster says how many"),
        ({"data": ["a.json"], "grid": {"lr": []}}, ", grid.lr", "has no values"),
        ({"data": ["a.json"], "grid": {"lrr": [1]}}, ", grid.lrr", "run_sft.sh has no such option"),
        ({"data": ["a.json"], "grid": {"lr": [1, -1]}}, ", grid.lr", "greater than 0"),
        ({"data": ["a.json"], "grid": {"seed": [1, 2]}}, ", grid.seed", "give `seeds`"),
        ({"data": ["a.json"], "variants": [{"name": "a"}]}, ", variants", "both say what is trained"),
        ({"sft": SFT, "variants": [{"name": "a"}, {"name": "a"}]}, ", variants", "'a' is given twice"),
        ({"sft": SFT, "variants": [{"name": "a b"}]}, ", variants", "cannot name a folder"),
        ({"sft": SFT, "variants": [{"name": "a", "sft": {"lrr": 1}}]}, ", variants.0.sft.lrr", "no such option"),
        ({"variants": [{"name": "a", "model": "x", "sft": {"lr": 1}}]}, ", variants.0", "is not trained"),
        ({"variants": [{"name": "a", "nam": "x"}]}, "", "did you mean 'name'?"),
        ({"variants": [{"name": "a"}]}, ", variants.0.sft", "no data was given"),
        ({"models": ["saves/a"], "seeds": [1, 2]}, ", seeds", "nothing is trained"),
        ({"data": ["a.json"], "checkpoints": "bset"}, "", "checkpoints: input should be 'final', 'best' or 'every'"),
        ({"data": ["a.json"], "gpu_price": -1}, "", "gpu_price: "),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_the_key(
    keys: dict[str, Any], where: str, said: str, tmp_path: Path
) -> None:
    path = write_sweep(tmp_path, **keys)
    with pytest.raises(UserError) as caught:
        read_sweep(path, {})
    assert str(caught.value).startswith(f"{path}{where}: ")
    assert said in str(caught.value)


def test_the_wrong_option_is_said_with_the_evaluators_own_file(tmp_path: Path) -> None:
    own = tmp_path / "evaluation.yaml"
    own.write_text("evaluator: loss\ntask: x\ntrails: 4\n")
    with pytest.raises(UserError, match=r"evaluators\.0, .*evaluation\.yaml, trails: there is no such option"):
        read(tmp_path, data=["a.json"], evaluators=[{"config": str(own)}])


def test_limits_beside_an_evaluators_file_override_those_in_it(tmp_path: Path) -> None:
    from agent_sft.sweep.evaluations import evaluators_of

    own = tmp_path / "evaluation.yaml"
    own.write_text("evaluator: tasks\ntask: x/tasks.jsonl\nlimits: {time_limit: 9, max_messages: 8}\n")
    config = read(tmp_path, data=["a.json"], evaluators=[{"config": str(own), "limits": {"time_limit": 7}}])
    asked = evaluators_of(config, "here")[0].asked("model", Path("out"), {})
    assert (asked.limits.time_limit, asked.limits.max_messages) == (7, 8)
