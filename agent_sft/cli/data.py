"""`agent-sft data`: everything about conversations that is not training."""

from __future__ import annotations

from importlib.util import find_spec

import click

from agent_sft.cli.lazy import LazyGroup

PREFIX = "agent_sft.cli.data_"

COMMANDS = {
    "process": "Run a pipeline of transforms over conversations.",
    "check": "Tell what LLaMA-Factory would do with each row, before it does.",
    "stats": "Count rows, turns, roles, tools, lengths and duplicates.",
    "preview": "Show the exact tokens of a row, and which of them carry loss.",
    "parity": "Compare the tokens that are trained on with those that a server renders.",
    "diff": "Show what a pipeline did to a conversation.",
    "push": "Store a file as a dataset with a name and a version.",
    "list": "List the datasets that are stored.",
    "show": "Show the card of a stored dataset.",
    "pull": "Write a stored dataset to a file.",
}
"""Each lives in the module `agent_sft.cli.data_NAME`."""


@click.group(
    cls=LazyGroup,
    known={name: text for name, text in COMMANDS.items() if find_spec(PREFIX + name)},
    prefix=PREFIX,
)
def command() -> None:
    """Look at conversations, compare them, and keep them by name and version."""
