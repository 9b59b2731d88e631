"""The settings of a training, computed from the number of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent_sft.config.yaml_files import as_number
from agent_sft.errors import UserError, nearest, wrong_value

BATCH = 2
PASSES = 10_000
"""Rows that a training sees, as near as one to ten passes come to it."""
WARMUP = 0.05
"""Share of an epoch's steps in which the learning rate rises, between 10 and 1,000 steps."""


class Settings(BaseModel):
    """What can be accepted, or changed one by one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: float = Field(gt=0)
    """Passes over the data."""
    batch_size: int = Field(BATCH, gt=0)
    """Conversations per optimizer step and GPU."""
    learning_rate: float = Field(2e-4, gt=0, lt=1)
    """At its highest."""
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    """How it falls."""
    warmup_steps: int = Field(ge=0)
    """Steps in which it rises."""
    finetuning_type: Literal["lora", "full"] = "lora"
    """An adapter, or all weights."""
    lora_rank: int = Field(8, gt=0)
    """Of the adapter."""
    cutoff_len: int = Field(12000, ge=16)
    """Tokens of the longest example."""

    def changed(self, name: str, value: Any) -> Settings:
        """Return the settings with one of them changed.

        Raises:
            UserError: there is no such setting, or no such value.
        """
        if name not in Settings.model_fields:
            hint = nearest(name, Settings.model_fields) or f"there are {', '.join(Settings.model_fields)}"
            raise UserError(f"there is no setting '{name}'", fix=hint)
        try:
            return Settings.model_validate({**self.model_dump(), name: as_number(value)})
        except ValidationError as error:
            raise UserError(f"{name}: {wrong_value(error.errors()[0])}") from error

    def all_changed(self, values: Mapping[str, Any]) -> Settings:
        """Return the settings with several of them changed."""
        settings = self
        for name, value in values.items():
            settings = settings.changed(name, value)
        return settings


def computed(rows: int, *, tiny: bool) -> Settings:
    """Return the settings for a training on so many rows.

    Args:
        rows: of the data.
        tiny: whether the model is a small one made on the spot, all of whose weights are trained.
    """
    epochs = max(1, min(10, round(PASSES / rows)))
    steps_per_epoch = math.ceil(rows / BATCH)
    return Settings(
        epochs=epochs,
        warmup_steps=max(10, min(1000, round(steps_per_epoch * WARMUP))),
        finetuning_type="full" if tiny else "lora",
    )
