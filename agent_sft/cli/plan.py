"""`agent-sft plan`: from data to a deployed model, with its price first and two questions on the way."""

from __future__ import annotations

import click

from agent_sft.cli.lazy import LazyGroup

COMMANDS = {
    "run": "Make a plan of DATA and carry it out: what `agent-sft plan DATA` does.",
    "approve": "Approve a plan with its costs, and go on with it.",
    "promote": "Choose the candidate that is trained on all data, and go on.",
    "status": "Tell how plans stand.",
}
"""Each lives in the module `agent_sft.cli.plan_NAME`."""


class PlanGroup(LazyGroup):
    """A group in which the name of data stands for the command that plans with it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` before what is no other command."""
        if args and args[0] not in self.known and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=PlanGroup,
    known=COMMANDS,
    prefix="agent_sft.cli.plan_",
    subcommand_metavar="DATA [OPTIONS] | COMMAND [ARGS]...",
)
def command() -> None:
    """Find good settings for data, and serve the model: told what it costs first, asked twice.

    The data is inspected and parted; candidates are priced, tried on a part of it and compared; the winner is trained
    on all of it, judged beside the untrained model on conversations that nobody has seen, and deployed.
    `agent-sft plan run --help` lists the options.
    """
