"""The options become LLaMA-Factory settings; a user's YAML and later flags change them as documented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_sft.config.sft import SFTConfig
from agent_sft.engines.llamafactory.arguments import (
    fingerprinted,
    merge_user_yaml,
    option_arguments,
    read_user_yaml,
)
from agent_sft.errors import UserError


def config(*given: str, **options: Any) -> SFTConfig:
    return SFTConfig.from_options({"input": "data.json", **options, "given": given or tuple(options)})


def arguments(**options: Any) -> dict[str, Any]:
    return option_arguments(config(**options), precision=None)


def test_defaults() -> None:
    settings = arguments()
    assert settings["model_name_or_path"] == "Qwen/Qwen2.5-7B-Instruct"
    assert settings["template"] == "qwen"
    assert settings["output_dir"] == "saves/Qwen2.5-7B-Instruct/tau2_sft"
    assert settings["learning_rate"] == 0.000005
    assert (settings["per_device_train_batch_size"], settings["gradient_accumulation_steps"]) == (1, 2)
    assert (settings["num_train_epochs"], settings["cutoff_len"]) == (2, 12000)
    assert "deepspeed" not in settings
    assert "max_steps" not in settings


def test_precision_is_what_the_devices_have() -> None:
    assert option_arguments(config(), precision="bf16")["bf16"]
    assert not option_arguments(config(), precision="fp16")["bf16"]
    assert option_arguments(config(), precision="fp16")["fp16"]
    assert not {"fp16", "bf16"} & {key for key, value in arguments().items() if value is True}


def test_without_an_interval_only_the_newest_checkpoint_is_kept() -> None:
    assert arguments()["save_total_limit"] == 1
    kept = arguments(checkpoint_interval=50)
    assert (kept["save_strategy"], kept["save_steps"]) == ("steps", 50)
    assert "save_total_limit" not in kept


def test_a_tiny_model_keeps_its_activations_as_memory_is_no_concern() -> None:
    assert arguments(model="tiny")["disable_gradient_checkpointing"] is True
    assert "disable_gradient_checkpointing" not in arguments()


def test_lora() -> None:
    settings = arguments(finetuning_type="lora", lora_rank=16)
    assert (settings["lora_rank"], settings["lora_alpha"], settings["lora_target"]) == (16, 32, "all")


def test_evaluation_loss_comes_every_epoch_or_with_every_checkpoint() -> None:
    settings = arguments(eval_dataset="held_out.json", dataset_name="calls")
    assert (settings["eval_dataset"], settings["eval_strategy"]) == ("calls_eval", "epoch")
    settings = arguments(val_size=0.1, checkpoint_interval=5)
    assert (settings["val_size"], settings["eval_strategy"], settings["eval_steps"]) == (0.1, "steps", 5)


def merged(theirs: dict[str, Any], asked: SFTConfig) -> tuple[dict[str, Any], set[str]]:
    settings, overrides = merge_user_yaml(asked, option_arguments(asked, precision=None), theirs)
    return settings, {override.key for override in overrides}


def test_a_users_yaml_replaces_our_settings_and_they_are_named() -> None:
    settings, overridden = merged({"learning_rate": 0.1, "seed": 42, "lora_dropout": 0.5}, config())
    assert settings["learning_rate"] == 0.1
    assert settings["lora_dropout"] == 0.5
    assert overridden == {"learning_rate"}


def test_no_strategy_is_no_strategy_in_a_yaml_and_in_a_setting() -> None:
    settings, _ = merged({"eval_strategy": False}, config(set={"save_strategy": False}))
    assert (settings["eval_strategy"], settings["save_strategy"]) == ("no", "no")


def test_a_flag_before_the_yaml_loses_and_one_after_it_wins() -> None:
    before = config("lr", "config", lr=0.5, config="x.yaml")
    after = config("config", "lr", lr=0.5, config="x.yaml")
    assert merged({"learning_rate": 0.1}, before) == (
        {**merged({}, before)[0], "learning_rate": 0.1},
        {"learning_rate"},
    )
    assert merged({"learning_rate": 0.1}, after)[0]["learning_rate"] == 0.5
    assert merged({"learning_rate": 0.1}, after)[1] == set()


def test_what_is_asked_for_on_top_of_the_yaml_wins_wherever_it_stands() -> None:
    asked = config(
        "checkpoint_interval", "set", "config", checkpoint_interval=7, set={"warmup_steps": 3}, config="x.yaml"
    )
    settings, _ = merged({"save_steps": 500, "save_strategy": "no", "warmup_steps": 9}, asked)
    assert (settings["save_steps"], settings["save_strategy"], settings["warmup_steps"]) == (7, "steps", 3)


def test_a_later_epochs_is_not_cancelled_by_the_yamls_steps() -> None:
    asked = config("config", "epochs", epochs=4, config="x.yaml")
    assert "max_steps" not in merged({"max_steps": 10}, asked)[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1,", r"user.yaml, line 1, column \d+: not YAML"),
        ("- a\n- b\n", "holds no settings"),
        ("", "holds no settings"),
        ("1: 2", "holds no settings"),
    ],
)
def test_a_yaml_that_holds_no_settings_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "user.yaml").write_text(content)
    with pytest.raises(UserError, match=message):
        read_user_yaml(tmp_path / "user.yaml")


def test_a_missing_yaml_and_a_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_user_yaml(tmp_path / "user.yaml")
    with pytest.raises(UserError, match=r"\.yaml files only"):
        read_user_yaml(tmp_path / "user.json")


def test_places_and_logging_do_not_count_as_a_change() -> None:
    first = arguments(output_dir="a", report_to=("wandb",))
    second = arguments(output_dir="b")
    assert fingerprinted(first) == fingerprinted(second)
    assert fingerprinted(first) != fingerprinted(arguments(lr=0.1))
