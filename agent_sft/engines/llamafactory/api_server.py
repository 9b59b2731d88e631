"""LLaMA-Factory's own server: enough for a first look, where vLLM cannot be installed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_sft.engines.llamafactory.launch import COMMAND
from agent_sft.engines.model_files import ModelFiles

LIMITS = (
    "LLaMA-Factory's server answers one request at a time, refuses several tool results in a row, writes the"
    " arguments of earlier calls in quotes, which is not how they were trained, drops the words beside a call, and"
    " ignores tool_choice and seed: good for a first look, no ground for a score of several calls"
)
"""What serving this way costs."""
KEY = "API_KEY"

KNOWN: tuple[tuple[str, str], ...] = (
    (r"address already in use|EADDRINUSE", "the port is taken by another program: leave --port out"),
    (
        r"CUDA out of memory|OutOfMemoryError",
        "the GPU's memory does not suffice: free it (see nvidia-smi), or --set infer_dtype=float16",
    ),
    (
        r"LocalEntryNotFoundError|couldn't connect to|OfflineModeIsEnabled|Repository Not Found",
        "the model cannot be loaded from there: check the name, the network and HF_TOKEN, or give a local folder",
    ),
)


def server_settings(model: ModelFiles, template: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return LLaMA-Factory's settings for serving a model.

    Args:
        model: a whole model or an adapter.
        template: LLaMA-Factory's chat template.
        given: the user's own settings, which win.
    """
    settings: dict[str, Any] = {"model_name_or_path": model.base or model.reference, "template": template}
    if model.adapter is not None:
        settings |= {"adapter_name_or_path": model.reference, "finetuning_type": "lora"}
    return {**settings, "infer_backend": "huggingface", **given}


def server_command(python: Path, settings: Path) -> list[str]:
    """Return the command that serves by the YAML file `settings`."""
    return [str(python), str(COMMAND), "api", str(settings)]


def server_environment(key: str, port: int | str, name: str) -> dict[str, str]:
    """Return the environment variables of the server: ours, with what it needs.

    Args:
        key: the API key, which stands nowhere else.
        port: on 127.0.0.1.
        name: the model's name for its callers.
    """
    environment = {variable: value for variable, value in os.environ.items() if variable != "USE_V1"}
    address = {"API_HOST": "127.0.0.1", "API_PORT": str(port), "API_MODEL_NAME": name}
    return {**environment, **address, KEY: key, "PYTHONUNBUFFERED": "1"}
