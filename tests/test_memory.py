"""Estimates of memory and disk: checked against DeepSpeed's, transformers' and LLaMA-Factory's own numbers."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from agent_sft.engines.environments import call_inside
from agent_sft.engines.llamafactory.launch import SHARED_DEEPSPEED
from agent_sft.engines.llamafactory.memory import (
    GIB,
    Sharding,
    checkpoint_bytes,
    checkpoints_at_once,
    estimate_memory,
)
from agent_sft.engines.llamafactory.shape import ModelShape, model_shape

QWEN3_8B: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 4096,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 12288,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
}
FULL: dict[str, Any] = {
    "finetuning_type": "full",
    "bf16": True,
    "per_device_train_batch_size": 1,
    "cutoff_len": 12000,
}
LORA = FULL | {"finetuning_type": "lora", "lora_rank": 8}


def shape_of(folder: Path, config: dict[str, Any]) -> ModelShape | None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return model_shape(str(folder))


@pytest.fixture
def eight_billion(tmp_path: Path) -> ModelShape:
    shape = shape_of(tmp_path / "qwen3 8b", QWEN3_8B)
    assert shape is not None
    return shape


def test_a_models_size_follows_from_its_config(eight_billion: ModelShape) -> None:
    assert eight_billion.parameters == 8_190_735_360
    assert eight_billion.largest_layer == 151936 * 4096


def write_weights(path: Path, *shapes: list[int]) -> None:
    tensors = {f"t{i}": {"dtype": "BF16", "shape": s, "data_offsets": [0, 0]} for i, s in enumerate(shapes)}
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def test_weights_that_are_there_are_counted_exactly(tmp_path: Path) -> None:
    config = QWEN3_8B | {"tie_word_embeddings": True}
    write_weights(tmp_path / "model.safetensors", [10, 20], [7], [])
    shape = shape_of(tmp_path, config)
    assert shape is not None
    assert shape.parameters == 10 * 20 + 7 + 1


def test_weights_in_several_files_are_counted_only_when_all_are_there(tmp_path: Path) -> None:
    index = {"weight_map": {"t0": "a.safetensors", "t1": "b.safetensors", "t2": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    write_weights(tmp_path / "a.safetensors", [100])
    shape = shape_of(tmp_path, QWEN3_8B)
    assert shape is not None
    assert shape.parameters == 8_190_735_360
    write_weights(tmp_path / "b.safetensors", [20], [3])
    shape = model_shape(str(tmp_path))
    assert shape is not None
    assert shape.parameters == 123


def test_a_hub_name_is_looked_up_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--Qwen--Qwen3-8B"
    (model / "refs").mkdir(parents=True)
    (model / "refs/main").write_text("abc123")
    shape_of_snapshot = model / "snapshots/abc123"
    shape_of_snapshot.mkdir(parents=True)
    (shape_of_snapshot / "config.json").write_text(json.dumps(QWEN3_8B))
    shape = model_shape("Qwen/Qwen3-8B")
    assert shape is not None
    assert shape.parameters == 8_190_735_360
    assert model_shape("Qwen/Qwen3-9B") is None


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "mamba", "hidden_size": 64},
        QWEN3_8B | {"model_type": "brand_new"},
        QWEN3_8B | {"hidden_size": None},
        QWEN3_8B | {"num_attention_heads": 0},
    ],
)
def test_a_size_that_is_not_known_is_not_invented(tmp_path: Path, config: dict[str, Any]) -> None:
    assert shape_of(tmp_path, config) is None


@pytest.mark.parametrize(
    ("sharding", "on_gpu", "on_host"),
    [
        (Sharding(2, processes=8), 32.4, 0),
        (Sharding(3, processes=8), 19.5, 0),
        (Sharding(3, offload_optimizer=True, processes=8), 4.2, 183.1),
        (Sharding(3, offload_optimizer=True, offload_parameters=True, processes=8), 2.3, 206.0),
        (Sharding(3, processes=4, nodes=2), 19.5, 0),
        (Sharding(None, processes=1), 122.0, 0),
        (Sharding(None, processes=8), 152.6, 0),
    ],
)
def test_an_8b_model_needs_what_deepspeed_says(
    eight_billion: ModelShape, sharding: Sharding, on_gpu: float, on_host: float
) -> None:
    estimate = estimate_memory(eight_billion, FULL, sharding)
    assert estimate is not None
    assert estimate.states / GIB == pytest.approx(on_gpu, abs=0.06)
    assert estimate.host / GIB == pytest.approx(on_host, abs=0.06)


def test_lora_needs_little_more_than_the_frozen_weights(eight_billion: ModelShape) -> None:
    alone = estimate_memory(eight_billion, LORA, Sharding())
    split = estimate_memory(eight_billion, LORA, Sharding(3, processes=8))
    small = estimate_memory(eight_billion, LORA | {"quantization_bit": 4}, Sharding())
    assert alone is not None
    assert split is not None
    assert small is not None
    # 36 layers; the adapter on q, k, v, o, gate, up, down of rank 8.
    sizes = [(4096, 4096), (4096, 1024), (4096, 1024), (4096, 4096), *[(4096, 12288)] * 3]
    adapter = 36 * sum(8 * (inputs + outputs) for inputs, outputs in sizes)
    assert eight_billion.lora_parameters(8) == adapter
    assert alone.states == 2 * 8_190_735_360 + 16 * adapter
    assert split.states < alone.states / 3
    assert small.weights < alone.weights / 3


def test_longer_examples_need_more_and_liger_saves_the_logits(eight_billion: ModelShape) -> None:
    plain = estimate_memory(eight_billion, FULL, Sharding(3, processes=8))
    double = estimate_memory(eight_billion, FULL | {"per_device_train_batch_size": 2}, Sharding(3, processes=8))
    liger = estimate_memory(eight_billion, FULL | {"enable_liger_kernel": True}, Sharding(3, processes=8))
    stored = estimate_memory(eight_billion, FULL | {"disable_gradient_checkpointing": True}, Sharding(3, processes=8))
    assert plain is not None
    assert double is not None
    assert liger is not None
    assert stored is not None
    assert plain.logits / GIB == pytest.approx(20.4, abs=0.1)
    assert (double.logits, double.activations) == (2 * plain.logits, 2 * plain.activations)
    assert liger.logits == 0
    assert plain.total - liger.total == plain.logits
    assert stored.activations > 8 * plain.activations


@pytest.mark.parametrize(
    "settings", [{"finetuning_type": "oft"}, {"optim": "adamw_8bit"}, {"use_galore": True}, {"fsdp": "full_shard"}]
)
def test_methods_that_are_not_described_are_unknown(eight_billion: ModelShape, settings: dict[str, Any]) -> None:
    assert estimate_memory(eight_billion, FULL | settings, Sharding()) is None


def test_a_checkpoints_size_is_what_the_trainer_writes(eight_billion: ModelShape) -> None:
    parameters = eight_billion.parameters
    assert checkpoint_bytes(eight_billion, FULL, None) == (12 * parameters, 4 * parameters)
    assert checkpoint_bytes(eight_billion, FULL, 2) == (16 * parameters, 2 * parameters)
    assert checkpoint_bytes(eight_billion, FULL, 3) == (14 * parameters, 2 * parameters)
    assert checkpoint_bytes(eight_billion, FULL | {"save_only_model": True}, 3) == (2 * parameters, 2 * parameters)
    assert checkpoint_bytes(eight_billion, LORA, None)[0] == 12 * eight_billion.lora_parameters(8)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"save_strategy": "no"}, 0),
        ({"save_strategy": "epoch", "save_total_limit": 1, "num_train_epochs": 2}, 2),
        ({"save_strategy": "epoch", "save_total_limit": 1, "num_train_epochs": 1}, 1),
        ({"save_strategy": "epoch", "num_train_epochs": 2.5}, 3),
        ({"save_strategy": "steps", "save_steps": 100, "max_steps": 450}, 4),
        ({"save_strategy": "steps", "save_steps": 100, "max_steps": 450, "save_total_limit": 2}, 3),
        ({"save_strategy": "steps", "save_steps": 100}, None),
        ({"save_strategy": "steps", "save_steps": 100, "save_total_limit": 2}, 3),
        ({"save_strategy": "steps", "save_steps": 0, "max_steps": 450}, None),
        ({"save_strategy": "steps", "save_steps": 0.25, "max_steps": 450}, 4),
    ],
)
def test_checkpoints_on_the_disk_at_the_worst_moment(settings: dict[str, Any], count: int | None) -> None:
    assert checkpoints_at_once(settings) == count


SMALL = {
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 6, "moe_intermediate_size": 48, "num_experts_per_tok": 2}


ESTIMATED = [
    (stage, optimizer, parameters, processes, nodes)
    for stage in (2, 3)
    for optimizer, parameters in ((False, False), (True, False), (True, True))
    for processes, nodes in ((1, 1), (8, 1), (8, 4))
    if stage == 3 or not parameters
]
"""Cases for DeepSpeed's own estimators."""
MODELS: list[dict[str, Any]] = [
    SMALL | extra
    for extra in (
        {"model_type": "llama"},
        {"model_type": "llama", "attention_bias": True},
        {"model_type": "llama", "tie_word_embeddings": True},
        {"model_type": "mistral", "head_dim": 16},
        {"model_type": "mixtral", "num_local_experts": 4},
        {"model_type": "qwen2"},
        {"model_type": "qwen2_moe", "shared_expert_intermediate_size": 96, **EXPERTS},
        {"model_type": "qwen3", "head_dim": 16},
        {"model_type": "qwen3_moe", "head_dim": 16, **EXPERTS},
        {"model_type": "phi3"},
        {"model_type": "gemma", "head_dim": 16},
        {"model_type": "gemma2", "head_dim": 16},
    )
]
"""Models whose parameters transformers counts."""


@pytest.fixture(scope="module")
def said(train_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the engines themselves say; they are started once."""
    shape = shape_of(tmp_path_factory.mktemp("shape") / "qwen3 8b", QWEN3_8B)
    assert shape is not None
    estimates = {"cases": ESTIMATED, "total": shape.parameters, "largest": shape.largest_layer}
    program = Path(__file__).parent / "inside" / "sizes.py"
    found: dict[str, Any] = call_inside(
        train_python,
        program,
        payload={"estimates": estimates, "models": MODELS},
        timeout=600,
        started=SHARED_DEEPSPEED.forked,
    )
    return found


@pytest.mark.slow
def test_deepspeeds_own_estimators_agree(said: dict[str, Any], eight_billion: ModelShape) -> None:
    for (stage, optimizer, parameters, processes, nodes), (gpu, host) in zip(ESTIMATED, said["estimates"], strict=True):
        estimate = estimate_memory(eight_billion, FULL, Sharding(stage, optimizer, parameters, processes, nodes))
        assert estimate is not None
        assert estimate.states == pytest.approx(gpu, rel=1e-6)
        if optimizer:  # without offloading, theirs is what loading takes for a moment
            assert estimate.host == pytest.approx(host, rel=1e-6)


@pytest.mark.slow
def test_transformers_counts_the_same_parameters(said: dict[str, Any], tmp_path: Path) -> None:
    assert len(said["models"]) == len(MODELS)
    for config, counted in said["models"]:
        shape = shape_of(tmp_path / "model", config)
        assert shape is not None, config["model_type"]
        assert shape.parameters == counted, config["model_type"]


@pytest.mark.slow
def test_what_a_layer_keeps_for_the_backward_pass_is_about_what_we_say(said: dict[str, Any], tmp_path: Path) -> None:
    measured = said["kept"]
    config = QWEN3_8B | {
        "model_type": "qwen2",
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 1,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 32,
    }
    shape = shape_of(tmp_path / "model", config)
    assert shape is not None
    for sharding, kept in ((Sharding(), measured[0]), (Sharding(2), measured[1])):
        estimate = estimate_memory(shape, FULL | {"cutoff_len": 512}, sharding)
        assert estimate is not None
        # One layer's input is a checkpoint, counted beside the inside of the layer.
        assert estimate.activations == pytest.approx(kept, rel=0.15)
