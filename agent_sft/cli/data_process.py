"""`agent-sft data process`: conversations through a pipeline of transforms."""

from __future__ import annotations

from pathlib import Path

import click

from agent_sft.cli.data_options import FILE
from agent_sft.cli.show import say


@click.command()
@click.argument("data", nargs=-1, required=True)
@click.option("--output", type=FILE, required=True, help="Where the rows go: JSON lines of OpenAI chat rows.")
@click.option("--pipeline", type=FILE, help="The transforms.  [default: one of configs/process, by the data]")
@click.option("--format", "form", help="Insist on a format instead of recognising it.")
@click.option("--min-reward", type=float, help="Leave out rows with a reward below this, before the pipeline.")
@click.option("--allow-rejects", is_flag=True, help="Exit 0 also when rows had to be rejected.")
def command(
    data: tuple[str, ...],
    output: Path,
    pipeline: Path | None,
    form: str | None,
    min_reward: float | None,
    allow_rejects: bool,
) -> None:
    """Run a pipeline of transforms over DATA: files or globs.

    Beside the output lie data_report.json, with what became of every row, turn and character, and rejects.jsonl,
    with the rows that cannot be used and why; the exit code is then 1 unless --allow-rejects is given.
    """
    from agent_sft.data.choosing import choose_pipeline
    from agent_sft.data.pipeline import load_pipeline
    from agent_sft.data.processing import process_data
    from agent_sft.data.rewards import Rewards
    from agent_sft.errors import WorkFailed
    from agent_sft.stages.outside import open_outside

    if pipeline is None:
        choice = choose_pipeline(data, form=form, opener=open_outside)
        say(f"{choice.path.name}, because {choice.reason} (--pipeline FILE takes another)")
        pipeline = choice.path
    report = process_data(
        data,
        load_pipeline(pipeline),
        output=output,
        form=form,
        rewards=Rewards(min_reward),
        opener=open_outside,
        described={"pipeline": str(pipeline)},
    )
    for line in report.lines():
        click.echo(line)
    if report.rejected and not allow_rejects:
        raise WorkFailed(
            f"{report.rejected:,} of {report.rows['read']:,} rows cannot be used: see {report.rejects_path}",
            fix="mend them, or give --allow-rejects to go on with the others",
        )
