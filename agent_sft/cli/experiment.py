"""`agent-sft experiment`: experiments in one file."""

from __future__ import annotations

import click

from agent_sft.cli.lazy import LazyGroup

COMMANDS = {"run": "Train and score what an experiment file describes, and hold its hypothesis against the numbers."}


@click.group(cls=LazyGroup, known=COMMANDS, prefix="agent_sft.cli.experiment_")
def command() -> None:
    """Run experiments that are described in one file. `agent-sft validate FILE` checks one first."""
