"""Naming a place in a row: `metadata.task_id`, and a few figures that are counted."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator

from agent_sft.data.transforms.contract import Row

MISSING = object()
"""What a row holds where it holds nothing; null is something."""

COUNTED = ("turns", "characters")


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"'{pattern}' is no regular expression: {error}") from error
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]
"""A parameter that is a regular expression."""


def look_up(row: Row, place: str) -> Any:
    """Return what stands at a place, keys joined by dots and positions in lists as numbers; `MISSING` if nothing.

    `turns` and `characters` are counted: messages, and characters in their contents.
    """
    if place in COUNTED and place not in row:
        messages = row.get("messages") or []
        if place == "turns":
            return len(messages)
        return sum(len(message.get("content") or "") for message in messages)
    value: Any = row
    for part in place.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.lstrip("-").isdigit() and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value
