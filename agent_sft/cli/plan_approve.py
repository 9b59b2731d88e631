"""`agent-sft plan approve ID`: the plan and its costs are agreed to."""

from __future__ import annotations

from typing import Any

import click

from agent_sft.cli.plan_executor import go_on, where_options


@click.command(short_help="Approve a plan with its costs, and go on with it.")
@click.argument("plan")
@click.option("--yes", is_flag=True, help="Approve the winner too, without a question.")
@where_options
@click.pass_context
def command(context: click.Context, /, plan: str, yes: bool, **where: Any) -> None:
    """Approve the plan PLAN, as it stands in its plan.md, and go on with it; days later too.

    One that was submitted to Slurm is submitted again, asking for the same unless --slurm says otherwise.
    Where the data or the machine changed meanwhile it is another plan, which is shown and waits again.
    """
    from agent_sft.errors import UserError
    from agent_sft.planning.approving import Grants
    from agent_sft.planning.folder import find_plan

    folder = find_plan(plan)
    if not (folder.path / "plan.json").is_file():
        raise UserError("there is no plan to approve yet", where=str(folder.path), fix="run its command again")
    grants = Grants(everything=yes, plan=True)
    go_on(context, folder, grants, **where)
