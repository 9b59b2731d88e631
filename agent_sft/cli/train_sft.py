"""`agent-sft train sft`: a training as a job."""

from __future__ import annotations

from typing import Any

import click

from agent_sft.cli.sft_options import given_options, sft_options
from agent_sft.cli.show import say

OF_THE_JOB = ("wait", "as_json", "dry_run", "gpus", "slots")


@click.command()
@click.argument("input", nargs=-1)
@sft_options
@click.option("--gpus", type=int, help="GPUs that it takes.  [default: all that are visible]")
@click.option("--slots", type=int, help="Jobs at a time where there is no GPU.  [default: AGENT_SFT_JOBS, or 1]")
@click.option("--wait", is_flag=True, help="Show its log until it ends; the exit code is the job's.")
@click.option("--json", "as_json", is_flag=True, help="The job as JSON; with --wait, as it ended.")
@click.option("--dry-run", is_flag=True, help="Print what would run, and touch nothing.")
@click.pass_context
def command(
    context: click.Context,
    /,
    wait: bool,
    as_json: bool,
    dry_run: bool,
    gpus: int | None,
    slots: int | None,
    **_options: Any,
) -> None:
    """Submit a fine-tuning on the conversations in INPUT or --dataset; print the job's id at once.

    The job goes on when this terminal closes. It is what `agent-sft sft` does with the same options; an adapter is
    trained where its rank or scale is given, and the data's name is that of its first file.
    """
    from agent_sft.cli.jobs_show import as_text, echo_json, exit_with
    from agent_sft.config.sft import SFTConfig
    from agent_sft.jobs.submitting import plan_training, submit_training

    given = {name: value for name, value in given_options(context).items() if name not in OF_THE_JOB}
    config = SFTConfig.from_options({**given, "given": tuple(n for n in given["given"] if n not in OF_THE_JOB)})
    if dry_run:
        from agent_sft.stages.sft import dry_run as shown
        from agent_sft.sweep.commands import training_command

        config, plan = plan_training(config)
        click.echo(f"command: {as_text(training_command(config))}")
        for line in shown(plan):
            click.echo(line)
        return
    job = submit_training(config, gpus=gpus, slots=slots)
    if not wait:
        echo_json(job) if as_json else click.echo(job.id)
        if not as_json:
            say(f"{job.status}; `agent-sft jobs logs -f {job.id}` shows how it goes, `agent-sft jobs --help` the rest")
        return
    say(f"job {job.id}; Ctrl-C leaves it running")
    exit_with(context, job.directory, as_json=as_json, show=True)
