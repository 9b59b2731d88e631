"""`agent-sft eval draft`: a checked benchmark of a data set."""

from __future__ import annotations

from pathlib import Path

import click

from agent_sft.cli.data_options import data_argument

SHOWN = 5
"""How many of the rows that are left out are shown."""


@click.command()
@data_argument
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder to write.  [default: ./NAME_eval]"
)
@click.option("--tasks", type=click.IntRange(min=1), help="Tasks to hold out.  [default: a fifth, at most 100]")
@click.option("--format", "form", help="What the rows are, such as openai.  [default: recognised]")
def command(data: str, output: Path | None, tasks: int | None, form: str | None) -> None:
    """Make a benchmark of DATA, where its answers can be checked: numbers, JSON, labels, tool calls.

    Writes an evaluator that can be read and changed, tasks that are held out, and the rest to train on. The evaluator
    is tried on the data itself: it must accept every reference and reject every corrupted one. Exits 1 where the
    answers cannot be checked, and says why.
    """
    from agent_sft.errors import WorkFailed
    from agent_sft.stages.drafting import draft

    made = draft(data, output or Path(f"{Path(data).name.split('.')[0]}_eval"), tasks=tasks, form=form)
    click.echo(f"checkable: {made.title}, in {made.checked:,} of {made.conversations:,} conversations")
    click.echo(f"accepted: {made.accepted:,} of {made.checked:,} references")
    for name, (told, of) in made.rejected.items():
        click.echo(f"rejected: {told:,} of {of:,} with {name}")
    for place, reason in made.left_out[:SHOWN]:
        click.echo(f"no task: {place}: {reason}")
    if len(made.left_out) > SHOWN:
        click.echo(f"no task: {len(made.left_out) - SHOWN:,} more, in {made.folder}/draft.json")
    click.echo(f"written: {made.folder}/evaluator.py, tasks.jsonl ({made.tasks:,}), train.jsonl ({made.train:,})")
    if not made.works:
        raise WorkFailed(
            "the evaluator does not tell right from wrong everywhere: look at the counts before you use it"
        )
    click.echo(f"next: agent-sft eval run --evaluator tasks --task {made.folder} --model MODEL")
