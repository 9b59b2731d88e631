"""`agent-sft eval retry`: run again what the infrastructure failed."""

from __future__ import annotations

from pathlib import Path

import click

from agent_sft.cli.eval_show import outcome_lines
from agent_sft.cli.sft_options import FILE
from agent_sft.cli.show import TerminalReporter, say


@click.command()
@click.argument("folder", type=FILE)
@click.option("--model", help="Where the model is now, for an address that has changed.")
@click.pass_context
def command(context: click.Context, folder: Path, model: str | None) -> None:
    """Run again the trials in FOLDER that have no score because the infrastructure failed, with the same options."""
    from agent_sft.runs.processes import Interrupted, catch_signals
    from agent_sft.stages.evaluating import check_complete, evaluate, kept_options

    config = kept_options(folder)
    if model is not None:
        config = config.model_copy(update={"model": model})
    with catch_signals() as stop:
        try:
            found = evaluate(config, reporter=TerminalReporter(), stop=stop, only_failed=True)
        except Interrupted as stopped:
            say(f"stopped; the same command goes on: {folder}")
            context.exit(stopped.exit_code)
    for line in outcome_lines(found):
        click.echo(line)
    check_complete(found)
