"""`agent-sft plan status`: how plans stand."""

from __future__ import annotations

import click


@click.command(short_help="Tell how plans stand.")
@click.argument("plan", required=False)
def command(plan: str | None) -> None:
    """Tell how the plan PLAN stands, or all in plans/."""
    from agent_sft.planning.folder import all_plans, find_plan
    from agent_sft.report.numbers import moment

    folders = [find_plan(plan)] if plan is not None else all_plans()
    if not folders:
        click.echo("there are no plans in plans/: `agent-sft plan DATA` makes one")
    for folder in folders:
        state = folder.state()
        if state is None:
            click.echo(f"{folder.path.name}: not begun")
            continue
        why = f": {state.reason}" if state.reason else ""
        click.echo(f"{folder.path.name}: {state.standing} ({state.phase}, {moment(state.updated)}){why}")
