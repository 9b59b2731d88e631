"""`agent-sft plan promote ID`: a candidate goes on to the final run."""

from __future__ import annotations

from typing import Any

import click

from agent_sft.cli.plan_executor import go_on, where_options


@click.command(short_help="Choose the candidate that is trained on all data, and go on.")
@click.argument("plan")
@click.option("--candidate", type=int, metavar="N", help="Its number on the scoreboard.  [default: the winner]")
@where_options
@click.pass_context
def command(context: click.Context, /, plan: str, candidate: int | None, **where: Any) -> None:
    """Promote the winner of the plan PLAN, or another candidate, and go on; days later too.

    One that was submitted to Slurm is submitted again, asking for the same unless --slurm says otherwise.
    """
    from agent_sft.errors import UserError
    from agent_sft.planning.approving import Grants
    from agent_sft.planning.board import check_promotable
    from agent_sft.planning.folder import find_plan
    from agent_sft.report.plan.record import SCOREBOARD, Scoreboard, read_record

    folder = find_plan(plan)
    board = read_record(folder.path, SCOREBOARD, Scoreboard)
    if board is None:
        what = "no candidate has been scored yet"
        raise UserError(what, where=str(folder.path), fix=f"agent-sft plan approve {folder.path.name} goes on")
    check_promotable(board, candidate or board.winner)
    grants = Grants(promotion=True, candidate=candidate)
    go_on(context, folder, grants, **where)
