"""`agent-sft deployments`: the models that stay served on this machine."""

from __future__ import annotations

import click

from agent_sft.cli.lazy import LazyGroup

COMMANDS = {
    "list": "List what is deployed, and whether it answers.",
    "logs": "Show what a deployment's server said.",
    "stop": "End a deployment, and wait until nothing of it is left.",
}
"""Each lives in the module `agent_sft.cli.deployments_NAME`."""


@click.group(cls=LazyGroup, known=COMMANDS, prefix="agent_sft.cli.deployments_")
def command() -> None:
    """List, look at and stop what `agent-sft deploy` started."""
