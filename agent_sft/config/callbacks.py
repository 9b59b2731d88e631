"""What watches a training, chosen by its kind."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class CallbackConfig(BaseModel):
    """One callback of a training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """What it is called in the registry, or `FILE.py:CLASS`."""

    params: dict[str, Any] = Field(default_factory=dict)
    """Its parameters."""
