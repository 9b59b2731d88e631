"""`agent-sft capability`: system prompts and tools by name and version."""

from __future__ import annotations

import click

from agent_sft.cli.lazy import LazyGroup

COMMANDS = {
    "push": "Store a folder as a version of a capability.",
    "list": "List the capabilities that are stored.",
    "show": "Show what a stored capability says.",
}
"""Each lives in the module `agent_sft.cli.capability_NAME`."""


@click.group(cls=LazyGroup, known=COMMANDS, prefix="agent_sft.cli.capability_")
def command() -> None:
    """Keep what is put before every conversation: a system prompt and tools, for `--capability NAME@VERSION`."""
