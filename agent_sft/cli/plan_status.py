"""`agent-sft plan status`: how plans stand."""

from __future__ import annotations

import click


@click.command(short_help="Tell how plans stand.")
@click.argument("plan", required=False)
def command(plan: str | None) -> None:
    """Tell how the plan PLAN stands, or all in plans/."""
    from agent_sft.planning.folder import all_plans, find_plan
    from agent_sft.planning.on_slurm import submission_of
    from agent_sft.report.numbers import moment

    folders = [find_plan(plan)] if plan is not None else all_plans()
    if not folders:
        click.echo("there are no plans in plans/: `agent-sft plan DATA` makes one")
    for folder in folders:
        state, slurm = folder.state(), submission_of(folder)
        queued = slurm.standing if slurm is not None else None
        if slurm is not None and queued is not None and queued.waits:
            click.echo(f"{folder.path.name}: job {slurm.id} of Slurm waits ({queued.reason})")
            continue
        if state is None:
            told = "not begun" if slurm is None else f"not begun: see {slurm.log} of job {slurm.id} of Slurm"
            click.echo(f"{folder.path.name}: {told}")
            continue
        why = f": {state.reason}" if state.reason else ""
        click.echo(f"{folder.path.name}: {state.standing} ({state.phase}, {moment(state.updated)}){why}")
