"""`--fast`: what is applied where, what is kept off, and that the same model is trained."""

from __future__ import annotations

import json
import random
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_sft.engines.environments import call_inside, engine_versions
from agent_sft.engines.llamafactory.facts import DISTRIBUTIONS, INSIDE, load_facts
from agent_sft.engines.llamafactory.fast import FastMachine, Switch, fast_settings, read_fast_file, with_switches
from agent_sft.engines.llamafactory.fast_machine import count_tokens, look_at_machine
from agent_sft.engines.llamafactory.launch import SHARED
from agent_sft.engines.llamafactory.packing import choose_packing, packed_rows
from agent_sft.engines.llamafactory.tiny import make_tiny_model
from agent_sft.errors import UserError

GIB = 1 << 30
PLAIN: dict[str, Any] = {
    "stage": "sft",
    "finetuning_type": "full",
    "cutoff_len": 12000,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 2,
    "bf16": True,
}
LENGTHS = [random.Random(row).randint(2000, 7000) for row in range(500)]
LONG = [random.Random(row).randint(2000, 11900) for row in range(500)]
SHORT = [random.Random(row).randint(200, 900) for row in range(500)]

GPU = FastMachine(
    gpus=1,
    gpu_bytes=80 * GIB,
    compute_capability=9.0,
    cpus=32,
    flash_attention=True,
    liger=True,
    liger_models=frozenset({"qwen2", "llama"}),
    model_type="qwen2",
    memory_needed=lambda arguments: 40 * GIB,
)
CPU = replace(GPU, gpus=0, gpu_bytes=None, compute_capability=None, flash_attention=False, liger=False)


def decided(switches: list[Switch]) -> dict[str, Any]:
    return {switch.key: switch.value for switch in switches if switch.applied}


def why_not(switches: list[Switch], key: str) -> str:
    (switch,) = [switch for switch in switches if switch.key == key]
    assert not switch.applied
    assert f"not {key}" in switch.line and switch.reason in switch.line
    return switch.reason


def test_a_gpu_with_everything_gets_everything_that_fits_the_data() -> None:
    switches = fast_settings(PLAIN, GPU, LENGTHS)
    applied = decided(switches)
    assert applied["flash_attn"] == "fa2"
    assert applied["enable_liger_kernel"] is True
    assert applied["neat_packing"] is True
    assert applied["disable_gradient_checkpointing"] is True
    assert applied["dataloader_num_workers"] == 4
    assert why_not(switches, "train_sampling_strategy") == "packed rows are equally long"
    assert len({switch.key for switch in switches}) == len(switches)


def test_packing_keeps_the_conversations_per_optimizer_step() -> None:
    for lengths, batch, accumulation in ((LENGTHS, 1, 2), (LENGTHS, 2, 8), (SHORT, 1, 16), (SHORT, 4, 8)):
        plain = PLAIN | {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        final = with_switches(plain, fast_settings(plain, GPU, lengths))
        assert final["neat_packing"] is True
        assert final["per_device_train_batch_size"] == 1
        assert final["cutoff_len"] % 8 == 0
        assert final["cutoff_len"] > max(lengths), "packing takes one token off the cutoff"
        per_row = len(lengths) / packed_rows(lengths, final["cutoff_len"] - 1)
        assert per_row * final["gradient_accumulation_steps"] == pytest.approx(batch * accumulation, rel=0.1)


def test_packing_that_would_train_more_at_once_is_kept_off() -> None:
    reason = why_not(fast_settings(PLAIN, GPU, SHORT, given={"cutoff_len"}), "neat_packing")
    assert "conversations per step instead of 2" in reason


def test_conversations_cut_at_the_cutoff_lose_no_further_token() -> None:
    lengths = [*LONG, 12000]
    plain = PLAIN | {"gradient_accumulation_steps": 8}
    assert decided(fast_settings(plain, GPU, lengths))["cutoff_len"] == 12008
    kept = fast_settings(plain, GPU, lengths, given={"cutoff_len"})
    assert "a multiple of 8 above" in why_not(kept, "neat_packing")


def test_rows_grow_beyond_the_cutoff_where_memory_allows_and_nothing_was_cut() -> None:
    assert decided(fast_settings(PLAIN, GPU, LONG))["cutoff_len"] > 13000
    small = replace(GPU, memory_needed=lambda arguments: 40 * GIB if arguments["cutoff_len"] < 12010 else 100 * GIB)
    assert with_switches(PLAIN, fast_settings(PLAIN, small, LONG))["cutoff_len"] <= 12008


@pytest.mark.parametrize(
    ("machine", "change", "reason"),
    [
        ({"flash_attention": False}, {}, "without flash-attn"),
        ({"compute_capability": 7.5}, {}, "without flash-attn"),
        ({"model_type": "gemma4"}, {}, "does not pack"),
        ({}, {"stage": "dpo"}, "packing is set otherwise"),
    ],
)
def test_packing_is_kept_off_where_it_would_fail(machine: dict[str, Any], change: dict[str, Any], reason: str) -> None:
    switches = fast_settings(PLAIN | change, replace(GPU, **machine), LENGTHS)
    assert reason in why_not(switches, "neat_packing")
    final = with_switches(PLAIN, switches)
    assert final["cutoff_len"] == PLAIN["cutoff_len"]
    assert final["per_device_train_batch_size"] * final["gradient_accumulation_steps"] == 2


def test_packing_waits_for_known_lengths() -> None:
    assert "lengths are not known" in why_not(fast_settings(PLAIN, GPU, None), "neat_packing")


def test_packing_with_evaluation_evaluates_one_row_at_a_time() -> None:
    plain = PLAIN | {"eval_dataset": "held_out", "per_device_eval_batch_size": 8}
    assert decided(fast_settings(plain, GPU, LENGTHS))["per_device_eval_batch_size"] == 1
    kept = fast_settings(plain, GPU, LENGTHS, given={"per_device_eval_batch_size"})
    assert "needs per_device_eval_batch_size 1" in why_not(kept, "neat_packing")


def test_what_the_user_set_is_never_touched() -> None:
    theirs = PLAIN | {"flash_attn": "sdpa", "enable_liger_kernel": False, "gradient_accumulation_steps": 5}
    keys = {"flash_attn", "enable_liger_kernel", "gradient_accumulation_steps", "dataloader_num_workers", "bf16"}
    switches = fast_settings(theirs, GPU, LENGTHS, given=keys)
    assert not keys & decided(switches).keys()
    assert why_not(switches, "flash_attn") == "you set it to sdpa"


def test_packing_that_the_user_set_keeps_its_batch_and_cutoff() -> None:
    theirs = PLAIN | {"neat_packing": True, "cutoff_len": 16001}
    applied = decided(fast_settings(theirs, GPU, LENGTHS, given={"neat_packing"}))
    assert not {"neat_packing", "cutoff_len", "per_device_train_batch_size"} & applied.keys()


def test_without_flash_attention_short_conversations_go_several_at_a_time() -> None:
    machine = replace(GPU, flash_attention=False)
    plain = PLAIN | {"gradient_accumulation_steps": 16}
    final = with_switches(plain, fast_settings(plain, machine, SHORT))
    assert final["per_device_train_batch_size"] * final["gradient_accumulation_steps"] == 16
    assert final["per_device_train_batch_size"] == 16
    assert final["train_sampling_strategy"] == "group_by_length"


def test_long_conversations_stay_alone() -> None:
    switches = fast_settings(PLAIN, replace(GPU, flash_attention=False), [12000] * 100)
    assert "keeps the GPU busy alone" in why_not(switches, "per_device_train_batch_size")
    assert why_not(switches, "train_sampling_strategy") == "one conversation at a time is not padded"


def test_the_batch_grows_as_far_as_memory_allows() -> None:
    def needed(arguments: dict[str, Any]) -> int:
        return int(arguments["per_device_train_batch_size"]) * 20 * GIB

    machine = replace(GPU, flash_attention=False, memory_needed=needed)
    plain = PLAIN | {"gradient_accumulation_steps": 12}
    applied = decided(fast_settings(plain, machine, SHORT))
    assert (applied["per_device_train_batch_size"], applied["gradient_accumulation_steps"]) == (3, 4)


def test_checkpointing_goes_only_where_memory_clearly_allows() -> None:
    def needed(arguments: dict[str, Any]) -> int:
        return (70 if arguments.get("disable_gradient_checkpointing") else 20) * GIB

    for machine in (
        replace(GPU, memory_needed=needed),
        replace(GPU, memory_needed=None),
        replace(GPU, memory_needed=lambda arguments: None),
        replace(GPU, gpu_bytes=None),
    ):
        switches = fast_settings(PLAIN, machine, LENGTHS)
        assert "a second time" in why_not(switches, "disable_gradient_checkpointing")
    assert decided(fast_settings(PLAIN, replace(GPU, gpu_bytes=141 * GIB, memory_needed=needed), LENGTHS))[
        "disable_gradient_checkpointing"
    ]


def test_memory_is_estimated_at_the_length_that_will_be_trained() -> None:
    seen: list[int] = []

    def needed(arguments: dict[str, Any]) -> int:
        seen.append(arguments["cutoff_len"])
        return GIB

    fast_settings(PLAIN, replace(GPU, memory_needed=needed), SHORT, given={"neat_packing"})
    assert set(seen) == {max(SHORT)}


def test_liger_only_for_models_that_llamafactory_lists() -> None:
    assert "no Liger kernels for model type olmo" in why_not(
        fast_settings(PLAIN, replace(GPU, model_type="olmo"), LENGTHS), "enable_liger_kernel"
    )
    assert "not known" in why_not(fast_settings(PLAIN, replace(GPU, model_type=None), LENGTHS), "enable_liger_kernel")


def test_on_a_cpu_nothing_but_grouping_and_workers_is_left() -> None:
    plain = PLAIN | {"bf16": False, "per_device_train_batch_size": 8}
    switches = fast_settings(plain, CPU, SHORT * 6)
    assert decided(switches) == {"train_sampling_strategy": "group_by_length", "preprocessing_num_workers": 3}
    for key in ("bf16", "flash_attn", "enable_liger_kernel", "disable_gradient_checkpointing"):
        assert why_not(switches, key) == "there is no GPU"


def test_a_line_taken_out_of_the_file_is_left_alone(tmp_path: Path) -> None:
    wanted = {key: value for key, value in read_fast_file().items() if key != "neat_packing"}
    assert "neat_packing" not in {switch.key for switch in fast_settings(PLAIN, GPU, LENGTHS, wanted=wanted)}
    (tmp_path / "fast.yaml").write_text("flash_atn: fa2\n")
    with pytest.raises(UserError, match=r"flash_atn(.|\n)*did you mean 'flash_attn'"):
        read_fast_file(tmp_path / "fast.yaml")


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=300),
    batch=st.integers(1, 8),
    accumulation=st.integers(1, 16),
    flash=st.booleans(),
    cutoff=st.sampled_from([2048, 3000, 3001, 12000]),
)
def test_whatever_the_data_no_token_is_lost_and_the_step_stays(
    lengths: list[int], batch: int, accumulation: int, flash: bool, cutoff: int
) -> None:
    cut = [min(length, cutoff) for length in lengths]
    plain = PLAIN | {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "cutoff_len": cutoff,
    }
    final = with_switches(plain, fast_settings(plain, replace(GPU, flash_attention=flash), cut))
    rows = final["per_device_train_batch_size"] * final["gradient_accumulation_steps"]
    if not final.get("neat_packing"):
        assert rows == batch * accumulation
        assert final["cutoff_len"] == cutoff
        return
    assert final["cutoff_len"] - 1 >= max(cut)
    per_row = len(cut) / packed_rows(cut, final["cutoff_len"] - 1)
    assert rows * per_row == pytest.approx(batch * accumulation, rel=0.1001)


def test_rows_of_a_packing_are_counted_per_thousand() -> None:
    assert packed_rows([5, 5, 5, 5], 10) == 2
    assert packed_rows([6, 5, 4, 3, 2], 10) == 2
    assert packed_rows([1] * 1000 + [1], 1000) == 2


def test_no_row_is_long_enough_for_the_longest_conversation() -> None:
    assert choose_packing([10, 100], 2, [96, 64]) is None


PACK = """
import json, random, sys
from llamafactory.data.processor.processor_utils import greedy_knapsack
lengths, capacity = json.load(sys.stdin)
print(sum(len(greedy_knapsack(lengths[i:i + 1000], capacity)) for i in range(0, len(lengths), 1000)))
"""


@pytest.mark.slow
def test_llamafactory_packs_into_as_many_rows_as_predicted(train_python: Path) -> None:
    lengths = [random.Random(row).randint(100, 4000) for row in range(2500)]
    order = json.dumps([lengths, 4095])
    done = subprocess.run(
        SHARED.forked([str(train_python), "-c", PACK]), input=order, capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[-1]) == packed_rows(lengths, 4095)


@pytest.mark.slow
def test_every_key_of_the_file_is_llamafactorys(train_python: Path) -> None:
    facts = load_facts(train_python, engine_versions(train_python, DISTRIBUTIONS))
    facts.check_keys(read_fast_file(), "configs/sft_fast.yaml")


def test_ligers_models_are_read_from_llamafactory_itself(train_python: Path) -> None:
    models = call_inside(train_python, INSIDE / "liger_models.py")
    assert {"qwen2", "qwen3", "llama", "glm", "glm4"} <= set(models)
    assert "qwen2_moe" not in models


def test_a_machine_without_gpu_is_described_without_starting_an_engine(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    machine = look_at_machine(
        Path("/nowhere/python"), str(tmp_path), gpu_bytes=[], compute_capability=None, memory_needed=None
    )
    assert (machine.gpus, machine.flash_attention, machine.liger) == (0, False, False)
    assert machine.model_type == "qwen2"


@pytest.mark.slow
def test_tokens_are_counted_as_llamafactory_trains_on_them(train_python: Path, tmp_path: Path) -> None:
    rows = [
        {"conversations": [{"from": "human", "value": "hello " * size}, {"from": "gpt", "value": "yes"}]}
        for size in (1, 20, 2000)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    info = {"demo": {"file_name": "data.jsonl", "formatting": "sharegpt"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    make_tiny_model(train_python, tmp_path / "data.jsonl", tmp_path / "model", seed=1)
    arguments = PLAIN | {
        "model_name_or_path": str(tmp_path / "model"),
        "template": "qwen",
        "dataset": "demo",
        "dataset_dir": str(tmp_path),
        "cutoff_len": 500,
        "output_dir": str(tmp_path / "out"),
        "neat_packing": True,
        "deepspeed": "missing.json",
    }
    lengths = count_tokens(train_python, arguments)
    assert len(lengths) == 3
    assert lengths[2] == 500
    assert lengths[0] < lengths[1] < 500
    assert not (tmp_path / "out").exists()
