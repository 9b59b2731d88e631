"""vLLM's flags for a model: as it was trained, and as the machine allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import psutil

from agent_sft.engines.model_files import ModelFiles
from agent_sft.engines.vllm.facts import INSIDE
from agent_sft.errors import UserError

LONGEST = 32768
"""Tokens of prompt and answer that are made room for, unless the model was trained on longer conversations."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM allows for the highest rank of an adapter."""
CONVERSATIONS = 16
"""Conversations of full length whose keys and values fit into the memory set apart on a machine without a GPU."""
GIB = 1 << 30
CPU_ADAPTERS = 16
"""Adapters kept in the host's memory."""
SERVER = "agent_sft_server.py"
"""Starts vLLM's server."""


def served_length(base: ModelFiles, trained: ModelFiles) -> int | None:
    """Return how many tokens of prompt and answer to make room for; None leaves it to vLLM.

    Args:
        base: the model whose positions count.
        trained: the model or adapter whose training counts.
    """
    limit = base.positions
    if limit is None:
        return None
    return max(min(limit, LONGEST), min(limit, int(trained.settings.get("cutoff_len") or 0)))


def served_dtype(base: ModelFiles, trained: ModelFiles, *, gpu: bool, bfloat16: bool) -> str:
    """Return the type to compute in: the one it was trained in where the machine has it.

    Args:
        base: the model whose weights count.
        trained: the model or adapter whose training counts.
        gpu: whether it is served on GPUs.
        bfloat16: whether they have it.
    """
    settings = trained.settings
    if settings.get("bf16") or settings.get("pure_bf16"):
        wanted = "bfloat16"
    elif settings.get("fp16"):
        wanted = "float16"
    elif gpu:
        wanted = "auto" if bfloat16 else "float16"
    else:
        wanted = base.dtype if base.dtype in ("float32", "bfloat16") else "auto"
    return "float16" if wanted == "bfloat16" and gpu and not bfloat16 else wanted


def tensor_parallel(base: ModelFiles, gpus: int) -> int:
    """Return how many of `gpus` GPUs can share the model: the most that divide its attention heads."""
    heads = base.heads or gpus
    return next((count for count in range(gpus, 0, -1) if heads % count == 0), 1)


def cache_bytes(base: ModelFiles, length: int | None) -> int:
    """Return the bytes of main memory for keys and values: for some conversations, a quarter of it at most.

    Args:
        base: the model.
        length: tokens of one conversation.
    """
    wanted = (base.cache_bytes or 0) * (length or 0) * CONVERSATIONS * 2  # float32 takes twice the bytes
    return max(GIB, min(wanted, psutil.virtual_memory().total // 4))


def lora_flags(adapters: Sequence[ModelFiles], later: int | None) -> dict[str, Any]:
    """Return the flags for adapters; empty where there are none.

    Args:
        adapters: those that are served from the start.
        later: the highest rank of those that come later; None when none do.

    Raises:
        UserError: a rank is higher than vLLM can serve.
    """
    wanted = max([adapter.rank for adapter in adapters] + ([later] if later else []), default=0)
    if not wanted:
        return {}
    rank = next((allowed for allowed in RANKS if allowed >= wanted), None)
    if rank is None:
        raise UserError(
            f"vLLM serves adapters up to rank {RANKS[-1]}, not {wanted}",
            where="--lora",
            fix="merge the adapter into its base with `llamafactory-cli export`, and serve that",
        )
    together = max(1, min(len(adapters), 4))
    return {
        "enable_lora": True,
        "max_lora_rank": rank,
        "max_loras": together,
        "max_cpu_loras": max(CPU_ADAPTERS, len(adapters)),
    }


def command_line(python: Path, arguments: Mapping[str, Any]) -> list[str]:
    """Return the command that starts vLLM's server.

    Args:
        python: the serve environment's.
        arguments: by names with underscores; True and False are a flag and its negation, None leaves one out.
    """
    # The program `vllm` looks for a distribution of that name, which its build for processors is not.
    return [str(python), str(INSIDE / SERVER), *flag_words(arguments)]


def flag_words(arguments: Mapping[str, Any]) -> list[str]:
    """Return arguments as vLLM's flags; as `command_line` takes them."""
    words = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            words += [f"--{flag}", *(_word(entry) for entry in value)]
        else:
            words += [f"--{flag}", _word(value)]
    return words


def _word(value: Any) -> str:
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else str(value)
