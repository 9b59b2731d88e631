"""`agent-sft serve`: talk to a trained model."""

from __future__ import annotations

import click

from agent_sft.cli.lazy import LazyGroup

COMMANDS = {
    "start": "Serve a run, a checkpoint, an adapter or a model: what `agent-sft serve RUN_OR_MODEL` does.",
    "status": "List the servers that run.",
    "stop": "End a server, and wait until nothing of it is left.",
    "load": "Add a LoRA adapter to a running server.",
    "unload": "Take a LoRA adapter away from a running server.",
}
"""Each lives in the module `agent_sft.cli.serve_NAME`."""


class ServeGroup(LazyGroup):
    """A group in which the name of a model stands for the command that serves it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `start` before what is no other command."""
        if args and args[0] not in self.known and args[0] not in ctx.help_option_names:
            args = ["start", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=ServeGroup,
    known=COMMANDS,
    prefix="agent_sft.cli.serve_",
    subcommand_metavar="RUN_OR_MODEL [OPTIONS] | COMMAND [ARGS]...",
)
def command() -> None:
    """Serve a model at an OpenAI-compatible address on this machine.

    `agent-sft serve start --help` lists the options.
    """
