"""Reads data that needs an engine's environment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agent_sft.engines.environments import engine_python
from agent_sft.engines.llamafactory.outside_rows import outside_rows


def open_outside(kind: str, name: str) -> Iterator[Any]:
    """Yield the rows of a parquet file or of a dataset on the hub; the environment is made if it is missing."""
    return outside_rows(engine_python("train"), kind, name)
