"""Callbacks by their kind: those built in, those that a package brings along, those in a file of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent_sft.config.callbacks import CallbackConfig
from agent_sft.errors import UserError
from agent_sft.registry import Registry
from agent_sft.stages.callbacks.contract import Callback

TRACKERS = ("mlflow", "swanlab", "tensorboard", "trackio", "wandb")

CALLBACKS = Registry(
    noun="callback",
    group="agent_sft.callbacks",
    package="agent_sft.stages.callbacks",
    built_in=("early_stopping", "local_logger", *TRACKERS),
)

register_callback = CALLBACKS.register


def make_callbacks(configs: Sequence[CallbackConfig], *, where: str, folder: Path | None = None) -> list[Callback]:
    """Return the callbacks with their parameters.

    Args:
        configs: their kinds and parameters.
        where: they stand, for errors.
        folder: to which files that are named in kinds are relative.

    Raises:
        UserError: a kind or a parameter is unknown (with the nearest name), or has a wrong value.
    """
    made = []
    for number, config in enumerate(configs):
        place = f"{where}.{number} ({config.kind})"
        callback = CALLBACKS.make(config.kind, config.params, where=place, folder=folder)
        if not isinstance(callback, Callback):
            raise UserError(f"'{config.kind}' is no callback", where=place, fix="derive it from Callback")
        made.append(callback)
    return made
