"""`agent-sft eval`: scores of served models, with numbers one can trust."""

from __future__ import annotations

from importlib.util import find_spec

import click

from agent_sft.cli.lazy import LazyGroup

PREFIX = "agent_sft.cli.eval_"

COMMANDS = {
    "run": "Score a model on a benchmark.",
    "retry": "Run the trials again that the infrastructure failed.",
    "list": "List the evaluators and what they can run.",
    "report": "Show what evaluations found, with intervals.",
    "compare": "Compare variants on the same tasks.",
    "draft": "Make a checked benchmark of a data set.",
}
"""Each lives in the module `agent_sft.cli.eval_NAME`."""


@click.group(
    cls=LazyGroup,
    known={name: text for name, text in COMMANDS.items() if find_spec(PREFIX + name)},
    prefix=PREFIX,
)
def command() -> None:
    """Score models, report what was found, and compare them."""
