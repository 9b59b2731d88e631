"""`agent-sft experiment run`: an experiment file to its conclusion."""

from __future__ import annotations

from pathlib import Path

import click

from agent_sft.cli.sft_options import FILE
from agent_sft.cli.show import TerminalReporter


@click.command()
@click.argument("file", type=FILE)
@click.option("--dry-run", is_flag=True, help="Print what would run, and touch nothing.")
@click.option("--fresh", is_flag=True, help="Set an earlier result aside and start over.")
@click.pass_context
def command(context: click.Context, file: Path, dry_run: bool, fresh: bool) -> None:
    """Run the experiment in FILE: train, score while it trains, and tell what came of it.

    The same command run again goes on where it was stopped, and tells what there is once it is done.
    """
    from agent_sft.experiment import Experiment

    experiment = Experiment.from_file(file)
    if dry_run:
        for line in experiment.shown():
            click.echo(line)
        return
    result = experiment.run(TerminalReporter(), fresh=fresh)
    for line in result.lines():
        click.echo(line)
    context.exit(result.exit_code)
