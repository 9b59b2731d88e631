"""Finds out what the fast settings are decided by: the engine's abilities and the conversations' lengths."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent_sft.engines.environments import call_inside
from agent_sft.engines.llamafactory.facts import INSIDE
from agent_sft.engines.llamafactory.launch import SHARED
from agent_sft.engines.llamafactory.shape import FETCH, FETCH_SECONDS, local_folder
from agent_sft.engines.llamafactory.weighing import FastMachine
from agent_sft.errors import WorkFailed
from agent_sft.files import read_json

FLASH, LIGER = "flash_attn.flash_attn_interface", "liger_kernel.transformers"


def look_at_machine(
    python: Path,
    model: str,
    *,
    gpu_bytes: Sequence[int | None],
    compute_capability: float | None,
    memory_needed: Callable[[dict[str, Any]], int | None] | None,
) -> FastMachine:
    """Describe this machine, the engine in this environment and a model for `fast_settings`.

    Without a GPU it takes milliseconds; with one some seconds, in which flash-attn and liger-kernel are
    imported: installed is not loadable.

    Args:
        python: the train environment's.
        model: hub name or folder.
        gpu_bytes: the memory of each GPU that trains; empty for a CPU, None in it where that is not known.
        compute_capability: the lowest of them.
        memory_needed: estimates the bytes that a training by given settings needs on each GPU.
    """
    known = [size for size in gpu_bytes if size is not None]
    errors: dict[str, str] = {FLASH: "not looked at", LIGER: "not looked at"}
    models: list[str] = []
    if gpu_bytes:
        errors = _load_errors(python)
        models = call_inside(python, INSIDE / "liger_models.py", timeout=60)
    return FastMachine(
        gpus=len(gpu_bytes),
        gpu_bytes=min(known) if len(known) == len(gpu_bytes) and known else None,
        compute_capability=compute_capability,
        cpus=len(os.sched_getaffinity(0)),
        flash_attention=FLASH not in errors,
        liger=LIGER not in errors,
        liger_models=frozenset(models),
        model_type=_model_type(python, model, fetch=bool(gpu_bytes)),
        memory_needed=memory_needed,
    )


def count_tokens(python: Path, arguments: dict[str, Any]) -> list[int]:
    """Return the tokens of every conversation that a training by these settings trains on, after truncation.

    LLaMA-Factory itself counts, which takes some 10 s and the time of tokenising.

    Args:
        python: the train environment's.
        arguments: LLaMA-Factory's settings, `dataset_dir` among them.

    Raises:
        WorkFailed: the data, the model's tokenizer or a setting cannot be used.
    """
    lengths: list[int] = call_inside(python, INSIDE / "lengths.py", payload=arguments, started=SHARED.forked)
    return lengths


def _model_type(python: Path, model: str, *, fetch: bool) -> str | None:
    """Return the model's type; of a hub model that is not in the cache, by fetching its config.json if `fetch`."""
    folder = local_folder(model)
    if folder is not None:
        config = read_json(folder / "config.json")
    elif fetch:
        try:
            config = call_inside(python, FETCH, model, timeout=FETCH_SECONDS)
        except WorkFailed:
            return None  # no network, or no such model: the training itself will say which
    else:
        return None
    return config.get("model_type") if isinstance(config, dict) else None


def _load_errors(python: Path) -> dict[str, str]:
    try:
        errors: dict[str, str] = call_inside(python, INSIDE / "probe.py", FLASH, LIGER, timeout=120)["errors"]
    except WorkFailed as error:
        return {FLASH: str(error), LIGER: str(error)}
    return errors
