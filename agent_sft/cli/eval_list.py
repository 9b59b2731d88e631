"""`agent-sft eval list`: the evaluators, and the evaluations that a folder holds."""

from __future__ import annotations

from pathlib import Path

import click

from agent_sft.cli.sft_options import FILE


@click.command()
@click.argument("folder", type=FILE, required=False)
def command(folder: Path | None) -> None:
    """List the evaluators; with FOLDER, the evaluations below it and how far each is."""
    from agent_sft.cli.eval_show import outcome_line
    from agent_sft.errors import UserError
    from agent_sft.evals.results import EVALUATION
    from agent_sft.stages.evaluating import outcome
    from agent_sft.stages.evaluators.registry import EVALUATORS

    if folder is None:
        for kind in EVALUATORS.kinds():
            about = (EVALUATORS.find(kind).__doc__ or "").strip().splitlines()
            click.echo(f"{kind:<10}{about[0] if about else ''}")
        return
    found = sorted(path.parent for path in folder.rglob(EVALUATION) if "set-aside" not in path.parts)
    if not found:
        raise UserError("no evaluation is below it", where=str(folder))
    for place in found:
        click.echo(outcome_line(outcome(place)))
