"""Settings are held against what the installed LLaMA-Factory really knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_sft.config.sft import SFTConfig
from agent_sft.engines.environments import engine_versions
from agent_sft.engines.llamafactory.arguments import option_arguments
from agent_sft.engines.llamafactory.facts import DISTRIBUTIONS, Facts, load_facts
from agent_sft.errors import UserError


@pytest.fixture(scope="module")
def facts(train_python: Path) -> Facts:
    return load_facts(train_python, engine_versions(train_python, DISTRIBUTIONS))


def test_an_unknown_key_names_the_nearest(facts: Facts) -> None:
    with pytest.raises(UserError, match=r"--set: .*'learning_rte'\n.*did you mean 'learning_rate'"):
        facts.check_keys({"learning_rte": 1}, "--set")


@pytest.mark.parametrize(
    ("key", "value"),
    [("learning_rate", "fast"), ("per_device_train_batch_size", 1.5), ("do_train", "yes"), ("max_steps", True)],
)
def test_a_value_of_the_wrong_kind_is_refused(facts: Facts, key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{key} takes a value of type"):
        facts.check_keys({key: value}, "--set")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("lr_scheduler_type", "cosin", "one of linear, cosine, .*, not 'cosin'\n.*did you mean 'cosine'"),
        ("save_strategy", "never", "one of no, steps, epoch, best, not 'never'"),
        ("flash_attn", "fa4", "one of auto, disabled, sdpa, fa2, fa3, not 'fa4'"),
    ],
)
def test_a_name_that_a_setting_does_not_take_is_refused(facts: Facts, key: str, value: str, says: str) -> None:
    with pytest.raises(UserError, match=f"(?s)my.yaml: {key} takes {says}"):
        facts.check_keys({key: value}, "my.yaml")


def test_no_is_a_strategy_though_yaml_reads_it_as_false(facts: Facts) -> None:
    facts.check_keys({"save_strategy": False, "eval_strategy": "no"}, "my.yaml")


def test_a_number_that_yaml_reads_as_text_is_explained(facts: Facts) -> None:
    with pytest.raises(UserError, match=r"write it as 1\.0e-05"):
        facts.check_keys({"learning_rate": "1e-5"}, "my.yaml")


def test_all_our_own_settings_are_known(facts: Facts) -> None:
    options = {
        "input": "x",
        "finetuning_type": "lora",
        "deepspeed": "ds.json",
        "checkpoint_interval": 5,
        "eval_dataset": "held_out.json",
        "steps": 3,
        "report_to": ("trackio",),
    }
    facts.check_keys(option_arguments(SFTConfig.from_options(options), precision="fp16"), "settings")
