"""Facts about an engine that cost seconds to find out, kept between commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent_sft.errors import UserError
from agent_sft.files import digest_value, read_json, write_json


def cache_home() -> Path:
    """Return our part of the user's cache, whether it is there or not."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agent-sft"


def cache_path(kind: str, key: Any) -> Path:
    """Return where a fact is kept, whether it is there or not; the arguments are those of `cached`."""
    return cache_home() / kind / f"{digest_value(key).removeprefix('sha256:')[:32]}.json"


def cached(kind: str, key: Any, compute: Callable[[], Any]) -> Any:
    """Return what `compute` returned for this `key` before, else compute and keep it.

    Args:
        kind: what is kept, a folder name.
        key: JSON-able; everything the value depends on, the versions of the engine among it.
        compute: gives a JSON-able value, never None.
    """
    path = cache_path(kind, key)
    value = read_json(path)
    if value is None:
        value = compute()
        try:
            write_json(path, value)
        except UserError:
            return value  # a home that cannot be written costs time, not the run
    return value
