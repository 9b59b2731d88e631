"""`agent-sft prepare`: a file of conversations to a dataset that LLaMA-Factory reads."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(path_type=Path)


@click.command()
@click.option(
    "--input",
    "sources",
    multiple=True,
    help="Conversations: a file, a glob, NAME@VERSION or hf:NAME; may be given several times.",
)
@click.option(
    "--trajectory-dataset",
    "trajectories",
    multiple=True,
    help="Rollouts of an agent (tau2 results, Inspect logs); may be given several times.",
)
@click.option("--format", "form", help="What the rows are, such as openai.  [default: recognised from them]")
@click.option(
    "--min-reward",
    type=float,
    help="Leave out rows with a reward below this: of --trajectory-dataset, or of all where none is given.",
)
@click.option("--dataset-name", default="tau2_sft", show_default=True, help="Name in dataset_info.json.")
@click.option("--output-dir", "folder", type=FILE, required=True, help="Folder of the dataset; may hold others.")
@click.option("--template", default="qwen", show_default=True, help="LLaMA-Factory chat template to train with.")
@click.option("--allow-rejects", is_flag=True, help="Exit 0 also when rows had to be rejected.")
def command(
    sources: tuple[str, ...],
    trajectories: tuple[str, ...],
    form: str | None,
    min_reward: float | None,
    dataset_name: str,
    folder: Path,
    template: str,
    allow_rejects: bool,
) -> None:
    """Validate conversations and write the data file and the dataset_info.json that LLaMA-Factory reads.

    Rows that cannot be trained on go to rejects.jsonl, each with its number and the reason; the exit code is
    then 1 unless --allow-rejects is given. The usable rows are written either way.
    """
    from agent_sft.data.preparing import prepare_dataset
    from agent_sft.errors import WorkFailed
    from agent_sft.stages.inputs import resolve_inputs, rewards_of
    from agent_sft.stages.looking import check_template_known
    from agent_sft.stages.outside import open_outside

    check_template_known(template)
    inputs = resolve_inputs(sources, trajectories)
    report = prepare_dataset(
        [one.name for one in inputs],
        name=dataset_name,
        folder=folder,
        template=template,
        form=form,
        rewards=rewards_of(inputs, min_reward),
        opener=open_outside,
    )
    for line in report.lines():
        click.echo(line)
    if report.rows_rejected and not allow_rejects:
        raise WorkFailed(
            f"{report.rows_rejected:,} of {report.rows_read:,} rows cannot be trained on: see {report.rejects_path}",
            fix="mend them, or give --allow-rejects to go on with the others",
        )
