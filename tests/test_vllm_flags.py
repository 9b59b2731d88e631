"""vLLM's flags follow from the run's record and the machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agent_sft.engines.model_files import ModelFiles
from agent_sft.engines.vllm.flags import (
    cache_bytes,
    command_line,
    lora_flags,
    served_dtype,
    served_length,
    tensor_parallel,
)
from agent_sft.engines.vllm.launch import serving_environment
from agent_sft.errors import UserError

QWEN: dict[str, Any] = {
    "max_position_embeddings": 32768,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "torch_dtype": "bfloat16",
}


def model(config: dict[str, Any] | None = None, *, rank: int | None = None, **settings: Any) -> ModelFiles:
    return ModelFiles(
        reference="model",
        folder=Path("model"),
        local=True,
        config=QWEN | (config or {}),
        adapter=None if rank is None else {"r": rank},
        settings=settings,
        run=None,
    )


@pytest.mark.parametrize(
    ("positions", "cutoff", "length"),
    [(32768, 12000, 32768), (2048, 12000, 2048), (131072, 12000, 32768), (131072, 65536, 65536), (None, 12000, None)],
)
def test_length(positions: int | None, cutoff: int, length: int | None) -> None:
    made = model({"max_position_embeddings": positions}, cutoff_len=cutoff)
    assert served_length(made, made) == length


@pytest.mark.parametrize(
    ("settings", "weights", "gpu", "bfloat16", "dtype"),
    [
        ({"bf16": True}, "bfloat16", True, True, "bfloat16"),
        ({"bf16": True}, "bfloat16", True, False, "float16"),
        ({"fp16": True}, "float32", True, True, "float16"),
        ({}, "float32", True, True, "auto"),
        ({}, "float32", True, False, "float16"),
        ({}, "float32", False, True, "float32"),
        ({}, "float16", False, True, "auto"),
    ],
)
def test_dtype_is_the_trained_one_where_the_machine_has_it(
    settings: dict[str, Any], weights: str, gpu: bool, bfloat16: bool, dtype: str
) -> None:
    made = model({"torch_dtype": weights}, **settings)
    assert served_dtype(made, made, gpu=gpu, bfloat16=bfloat16) == dtype


@pytest.mark.parametrize(("gpus", "shared"), [(1, 1), (2, 2), (4, 4), (8, 7), (3, 2), (5, 4)])
def test_gpus_share_the_heads_evenly(gpus: int, shared: int) -> None:
    assert tensor_parallel(model(), gpus) == shared


def test_adapters_get_room_for_the_highest_rank() -> None:
    assert lora_flags([], None) == {}
    assert lora_flags([model(rank=8)], None)["max_lora_rank"] == 8
    flags = lora_flags([model(rank=8), model(rank=9)], None)
    assert (flags["enable_lora"], flags["max_lora_rank"], flags["max_loras"]) == (True, 16, 2)
    assert lora_flags([model(rank=8)], 200)["max_lora_rank"] == 256
    with pytest.raises(UserError, match="up to rank 512, not 1024"):
        lora_flags([model(rank=1024)], None)


def test_values_are_written_as_vllm_reads_them() -> None:
    arguments = {"max_model_len": 9, "enable_lora": True, "enable_prefix_caching": False, "revision": None}
    words = command_line(Path("python"), {**arguments, "hf_overrides": {"a": 1}, "lora_modules": [{"name": "x"}, "y"]})
    assert (words[0], Path(words[1]).name) == ("python", "agent_sft_server.py")
    assert words[2:] == [
        *("--max-model-len", "9", "--enable-lora", "--no-enable-prefix-caching", "--hf-overrides", '{"a":1}'),
        *("--lora-modules", '{"name":"x"}', "y"),
    ]


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONDONTWRITEBYTECODE", "WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    made = serving_environment("secret", local=True, on_gpu=True)
    assert not {"PYTHONDONTWRITEBYTECODE", "WORLD_SIZE", "VLLM_CPU_OMP_THREADS_BIND"} & set(made)
    assert made["VLLM_API_KEY"] == "secret"
    assert made["PYTHONPATH"].endswith(":/theirs")


def test_few_processors_are_shared_and_one_is_left_to_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("VLLM_CPU_OMP_THREADS_BIND", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    made = serving_environment("secret", local=True, on_gpu=False)
    assert (made["VLLM_CPU_OMP_THREADS_BIND"], made["OMP_NUM_THREADS"]) == ("nobind", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert serving_environment("secret", local=True, on_gpu=False)["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0-3")
    assert serving_environment("secret", local=True, on_gpu=False)["VLLM_CPU_OMP_THREADS_BIND"] == "0-3"


def test_memory_for_keys_and_values_is_for_some_conversations_of_full_length() -> None:
    assert cache_bytes(model({"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 4}), 1000) == 1 << 30
    # 28 layers, 4 heads of 128, keys and values, four bytes each: 112 KiB a token.
    assert cache_bytes(model(), 1024) == 16 * 1024 * 112 * 1024
    assert cache_bytes(model({"num_hidden_layers": None}), 1024) == 1 << 30
