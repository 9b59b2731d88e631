"""`agent-sft eval report`: what evaluations found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent_sft.cli.eval_options import format_option, give, output_option

if TYPE_CHECKING:
    from agent_sft.report.evaluations import Format


@click.command()
@click.argument("folders", nargs=-1, required=True)
@format_option
@output_option
def command(folders: tuple[str, ...], shape: Format, output: Path | None) -> None:
    """Show what the evaluations in FOLDERS found: pass^k and pass@k, violations, tool calls, turns.

    Every number is a mean over tasks with its 95 % interval, of all tasks and of each family. Exits 1 where a trial has
    no score, because it was not run yet or the infrastructure failed.
    """
    from agent_sft.evals.statistics import summarise
    from agent_sft.report.evaluations import show_summaries

    summaries = [summarise(folder) for folder in folders]
    give(show_summaries(summaries, shape), output)
    if any(summary.overall.scored < summary.overall.trials for summary in summaries):
        raise click.exceptions.Exit(1)
