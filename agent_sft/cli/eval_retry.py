"""`agent-sft eval retry`: run again what the infrastructure failed."""

from __future__ import annotations

from pathlib import Path

import click

from agent_sft.cli.eval_show import run_and_show
from agent_sft.cli.sft_options import FILE


@click.command()
@click.argument("folder", type=FILE)
@click.option("--model", help="Where the model is now, for an address that has changed.")
@click.pass_context
def command(context: click.Context, folder: Path, model: str | None) -> None:
    """Run again the trials in FOLDER that have no score because the infrastructure failed, with the same options."""
    from agent_sft.stages.evaluating import kept_options

    config = kept_options(folder)
    if model is not None:
        config = config.model_copy(update={"model": model})
    run_and_show(context, config, only_failed=True)
