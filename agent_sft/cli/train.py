"""`agent-sft train`: trainings as jobs."""

from __future__ import annotations

import click

from agent_sft.cli.lazy import LazyGroup

COMMANDS = {"sft": "Fine-tune a model on conversations (supervised fine-tuning)."}
"""Each lives in the module `agent_sft.cli.train_NAME`."""


@click.group(cls=LazyGroup, known=COMMANDS, prefix="agent_sft.cli.train_")
def command() -> None:
    """Submit a training: it waits for its slot and runs, whatever becomes of this terminal."""
