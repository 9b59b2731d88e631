"""Transforms by their kind: those built in, those that a package brings along, those in a file of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_sft.data.transforms.contract import Transform
from agent_sft.errors import UserError
from agent_sft.registry import Registry

GROUP = "agent_sft.transforms"
"""The entry point group in which a package names its transforms."""

BUILT_IN = (
    "check_tools",
    "dedup",
    "filter",
    "fix_arguments",
    "jsonl_to_chat",
    "merge_turns",
    "remove_think",
    "sample",
    "split",
    "system_prompt",
    "to_hermes",
    "trim_trailing",
)
"""Each lives in the module of its name, which is imported when it is asked for."""

TRANSFORMS = Registry("transform", GROUP, "agent_sft.data.transforms", BUILT_IN)

register_transform = TRANSFORMS.register
known_kinds = TRANSFORMS.kinds
find_transform = TRANSFORMS.find


def make_transform(kind: str, params: Mapping[str, Any], *, where: str, folder: Path | None = None) -> Transform:
    """Return a transform with its parameters.

    Raises:
        UserError: the kind is unknown, or a parameter is (with the nearest name), or has a wrong value.
    """
    made: Transform = TRANSFORMS.make(kind, params, where=where, folder=folder)
    if not callable(made):
        raise UserError(f"the transform '{kind}' cannot be called with rows", where=where, fix="give it __call__")
    return made
