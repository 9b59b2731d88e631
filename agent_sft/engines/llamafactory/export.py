"""Merging an adapter into its base, by LLaMA-Factory's own export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from agent_sft.engines.llamafactory.launch import COMMAND, Launch, training_environment

SHARD_GIGABYTES = 5
"""Size of a file of weights, as the hub likes them."""


def export_command(python: Path, settings: Path) -> list[str]:
    """Return the command that merges by `settings`."""
    return [str(python), str(COMMAND), "export", str(settings)]


def export_environment(python: Path) -> dict[str, str]:
    """Return the environment variables of a merge."""
    launch = Launch(processes=1, nodes=1, node_rank=0, master_addr="127.0.0.1", master_port=None)
    return training_environment(python, launch, gpus=0)


def export_settings(adapter: Path, base: str, trained: Mapping[str, Any], target: Path) -> str:
    """Return LLaMA-Factory's settings that merge an adapter, as YAML.

    Args:
        adapter: its folder.
        base: folder or hub name of the model that it belongs to.
        trained: the settings it was trained with.
        target: folder for the whole model.
    """
    kept = {name: trained[name] for name in ("template", "trust_remote_code", "enable_thinking") if name in trained}
    settings = {
        "model_name_or_path": base,
        "adapter_name_or_path": str(adapter),
        "finetuning_type": "lora",
        **kept,
        "export_dir": str(target),
        "export_size": SHARD_GIGABYTES,
        "export_device": "cpu",
        "export_legacy_format": False,
    }
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
