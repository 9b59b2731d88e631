"""`agent-sft plan promote ID`: a candidate goes on to the final run."""

from __future__ import annotations

import click

from agent_sft.cli.plan_show import carry_out


@click.command(short_help="Choose the candidate that is trained on all data, and go on.")
@click.argument("plan")
@click.option("--candidate", type=int, metavar="N", help="Its number on the scoreboard.  [default: the winner]")
@click.pass_context
def command(context: click.Context, plan: str, candidate: int | None) -> None:
    """Promote the winner of the plan PLAN, or another candidate, and go on; days later too."""
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
    carry_out(context, folder.config().model_copy(update={"out": folder.path}), grants)
