"""Every configuration that is shipped loads, and means what it says."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_sft.config.evaluation import read_evaluation_config
from agent_sft.config.sft import SFTConfig
from agent_sft.data.pipeline import load_pipeline
from agent_sft.engines.deepspeed.config import read_config
from agent_sft.engines.environments import call_inside
from agent_sft.engines.llamafactory.arguments import option_arguments, read_user_yaml
from agent_sft.engines.llamafactory.launch import SHARED
from agent_sft.stages.evaluators.registry import make_evaluator
from agent_sft.stages.experiments.conclusion import EXPECTED
from agent_sft.stages.experiments.resolve import resolve
from agent_sft.stages.in_loop.plan import check_benchmarks

PARSE = """
import json, sys
import torch
from llamafactory.hparams import get_train_args

parsed = []
for settings in json.load(sys.stdin):
    if not torch.cuda.is_available():
        settings["bf16"] = False  # refused without a GPU
    settings.pop("enable_liger_kernel", None)  # refused where liger-kernel is not installed
    model, data, training, finetuning, _ = get_train_args(settings)
    parsed.append({
        "template": data.template, "cutoff_len": data.cutoff_len, "dataset": data.dataset,
        "learning_rate": training.learning_rate, "epochs": training.num_train_epochs,
        "warmup": training.get_warmup_steps(1000), "save": str(training.save_strategy.value),
        "type": finetuning.finetuning_type, "rank": finetuning.lora_rank, "alpha": finetuning.lora_alpha,
        "targets": finetuning.lora_target,
    })
print(json.dumps(parsed), file=sys.__stdout__)
"""


EVALUATIONS = {
    "mini_telecom.yaml": ("inspect", "scripted"),
    "tau2_telecom.yaml": ("tau2", "openai/gpt-4.1"),
    "tau2_telecom_inspect.yaml": ("inspect", "openai/gpt-4.1"),
}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_evaluation_loads_and_its_parameters_fit_its_evaluator(repo: Path, name: str) -> None:
    config = read_evaluation_config(repo / "configs" / "eval" / name, {})
    assert (config.evaluator, config.user_model, config.trials) == (*EVALUATIONS[name], 4)
    make_evaluator(config.evaluator, config.params, where=name)


def test_an_experiment_loads_and_its_example_data_is_what_its_script_makes(repo: Path, tmp_path: Path) -> None:
    with contextlib.chdir(repo):
        found = resolve(Path("configs/experiments/tool_slugs.yaml"))
        check_benchmarks(found.config.all_benchmarks)
        assert load_pipeline(Path("examples/tool_slugs/pipeline.yaml")).names == ("jsonl_to_chat",)
    assert EXPECTED.search(found.config.expected or "")
    make = repo / "examples" / "tool_slugs" / "make_data.py"
    subprocess.run([sys.executable, "-P", make, tmp_path], check=True)
    for name in ("train.jsonl", "val/tasks.jsonl"):
        assert (tmp_path / name).read_bytes() == (make.with_name("data") / name).read_bytes()
    trained = {json.loads(line)["query"] for line in (tmp_path / "train.jsonl").read_text().splitlines()}
    asked = [json.loads(line)["instruction"] for line in (tmp_path / "val" / "tasks.jsonl").read_text().splitlines()]
    assert not any(f"Request: {query}\n" in instruction for query in trained for instruction in asked)


def settings_of(repo: Path, name: str) -> dict[str, Any]:
    return read_user_yaml(repo / "configs" / name)


def test_nothing_is_shipped_that_no_test_loads(repo: Path) -> None:
    settings = {"sft_config.yaml", "lora.yaml", "sft_fast.yaml", "mini_telecom.yaml"}
    assert {path.name for path in (repo / "configs").iterdir()} == {
        *settings,
        *("eval", "experiments", "process", "sweeps", "tiny"),
    }
    assert {path.name for path in (repo / "configs" / "tiny").iterdir()} == {"mini_telecom.yaml", "tool_slugs.yaml"}
    assert {path.name for path in (repo / "configs" / "experiments").iterdir()} == {"tool_slugs.yaml"}
    assert {path.name for path in (repo / "configs" / "process").iterdir()} == {"airline_retail.yaml", "telecom.yaml"}
    assert {path.name for path in (repo / "configs" / "eval").iterdir()} == set(EVALUATIONS)
    assert {path.name for path in (repo / "ds_configs").iterdir()} == {
        "ds_zero2.json",
        "ds_zero3.json",
        "ds_zero3_no_offload.json",
    }


def test_the_reference_holds_exactly_what_run_sft_sets_without_options(repo: Path) -> None:
    reference = settings_of(repo, "sft_config.yaml")
    assert reference.pop("dataset_dir") == "./workdir"
    assert reference == option_arguments(SFTConfig(input=("data.json",)), precision="bf16")


def test_the_reference_gives_a_reason_for_every_setting(repo: Path) -> None:
    obvious = {"dataset_dir", "do_train", "stage", "output_dir", "lr_scheduler_type"}
    for line in (repo / "configs" / "sft_config.yaml").read_text().splitlines():
        key = line.partition(":")[0]
        if line and not line.startswith("#") and key not in obvious:
            assert "  #" in line or " # " in line, line


def test_lora_changes_what_it_says_and_nothing_else(repo: Path) -> None:
    lora, reference = settings_of(repo, "lora.yaml"), settings_of(repo, "sft_config.yaml")
    assert set(lora) == {"finetuning_type", "lora_rank", "lora_alpha", "lora_target", "learning_rate"}
    assert lora["learning_rate"] == pytest.approx(10 * reference["learning_rate"])
    assert lora["lora_alpha"] == 2 * lora["lora_rank"]


@pytest.mark.parametrize("name", ["ds_zero2.json", "ds_zero3.json", "ds_zero3_no_offload.json"])
def test_deepspeed_files_leave_to_the_trainer_what_the_trainer_knows(repo: Path, name: str) -> None:
    config = read_config(repo / "ds_configs" / name)
    raw = config.raw
    auto = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    assert all(raw[key] == "auto" for key in auto)
    assert raw["bf16"] == raw["fp16"] == {"enabled": "auto"}
    assert raw["zero_allow_untested_optimizer"] is True
    assert raw["zero_optimization"]["overlap_comm"] is (config.stage == 3)
    assert config.gathers_weights_on_save


def test_the_documentation_explains_every_value_of_the_deepspeed_files(repo: Path) -> None:
    text = (repo / "docs" / "training.md").read_text(encoding="utf-8")
    for path in (repo / "ds_configs").iterdir():
        raw = json.loads(path.read_text())
        zero = raw.pop("zero_optimization")
        for key in (*raw, *zero):
            assert f"`{key}`" in text, f"{key} of {path.name}"


@pytest.mark.slow
def test_llamafactorys_own_parser_accepts_them(repo: Path, train_python: Path, tmp_path: Path) -> None:
    program = tmp_path / "parse.py"
    program.write_text(PARSE)
    reference = settings_of(repo, "sft_config.yaml") | {"output_dir": str(tmp_path / "out")}
    overlays = [{}, *(settings_of(repo, name) for name in ("lora.yaml", "sft_fast.yaml", "mini_telecom.yaml"))]
    plain, lora, fast, mini = call_inside(
        train_python, program, payload=[reference | overlay for overlay in overlays], timeout=300, started=SHARED.forked
    )
    assert (plain["template"], plain["cutoff_len"], plain["dataset"]) == ("qwen", 12000, ["tau2_sft"])
    assert (plain["learning_rate"], plain["epochs"], plain["warmup"], plain["save"]) == (5e-6, 2.0, 100, "epoch")
    assert plain["type"] == "full"
    assert (lora["type"], lora["rank"], lora["alpha"], lora["targets"]) == ("lora", 8, 16, ["all"])
    assert fast["learning_rate"] == 5e-6
    assert (mini["learning_rate"], mini["cutoff_len"], mini["save"]) == (4e-3, 16384, "no")


def test_they_are_plain_yaml(repo: Path) -> None:
    for path in (repo / "configs").glob("*.yaml"):
        for key, value in yaml.safe_load(path.read_text()).items():
            assert not (isinstance(value, str) and value[:1].isdigit()), f"{path.name}: {key} is read as text"
