"""`agent-sft sweep`: variants trained, served, scored and compared."""

from __future__ import annotations

from importlib.util import find_spec

import click

from agent_sft.cli.lazy import LazyGroup

PREFIX = "agent_sft.cli.sweep_"

COMMANDS = {
    "run": "Train, serve, score and compare variants (what run_eval_sweep.sh runs).",
    "status": "Show how a sweep stands.",
    "logs": "Show the logs of a sweep's jobs.",
    "stop": "Stop a sweep; the same command goes on.",
    "clean": "Take away what a sweep no longer needs.",
    "report": "Make a sweep's report anew.",
}
"""Each lives in the module `agent_sft.cli.sweep_NAME`."""


@click.group(
    cls=LazyGroup,
    known={name: text for name, text in COMMANDS.items() if find_spec(PREFIX + name)},
    prefix=PREFIX,
)
def command() -> None:
    """Train, serve, score and compare variants of data, settings or seeds."""
