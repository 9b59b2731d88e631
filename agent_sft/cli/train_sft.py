"""`agent-sft train sft`: a training as a job."""

from __future__ import annotations

from typing import Any

import click

from agent_sft.cli.executor_options import EXECUTOR_NAMES, executor_options
from agent_sft.cli.sft_options import given_options, sft_options
from agent_sft.cli.show import say
from agent_sft.cli.slurm import SLURM_OPTION, slurm_of

OF_THE_JOB = ("wait", "as_json", "dry_run", "gpus", "slots", "slurm", *EXECUTOR_NAMES)


@click.command()
@click.argument("input", nargs=-1)
@sft_options
@executor_options
@SLURM_OPTION
@click.option("--gpus", type=int, help="GPUs that it takes, of each machine.  [default: all that are visible]")
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
    executor: str | None,
    slurm: tuple[str, ...],
    ray_address: str | None,
    **_options: Any,
) -> None:
    """Submit a fine-tuning on the conversations in INPUT or --dataset; print the job's id at once.

    The job goes on when this terminal closes. It is what `agent-sft sft` does with the same options; an adapter is
    trained where its rank or scale is given, and the data's name is that of its first file.
    """
    from agent_sft.cli.jobs_show import as_text, echo_json, exit_with
    from agent_sft.config.sft import SFTConfig
    from agent_sft.jobs.submitting import (
        cluster_asked,
        cluster_resources,
        plan_training,
        slurm_script,
        submit_training,
    )

    given = {name: value for name, value in given_options(context).items() if name not in OF_THE_JOB}
    asked, _ = slurm_of({**given, "executor": executor, "slurm": slurm})
    nodes = _machines(given) if executor == "ray" else 1
    cluster = cluster_asked(executor, ray_address, gpus=gpus, slots=slots, nodes=nodes)
    config = SFTConfig.from_options({**given, "given": tuple(n for n in given["given"] if n not in OF_THE_JOB)})
    if dry_run and asked is not None:
        click.echo(slurm_script(config, asked), nl=False)
        return
    if dry_run:
        from agent_sft.stages.sft import dry_run as shown
        from agent_sft.sweep.commands import training_command

        config, plan = plan_training(config, None if cluster is None else cluster_resources(cluster))
        click.echo(f"command: {as_text(training_command(config))}")
        for line in shown(plan):
            click.echo(line)
        return
    job = submit_training(config, gpus=gpus, slots=slots, cluster=cluster, slurm=asked)
    if not wait:
        echo_json(job) if as_json else click.echo(job.id)
        if not as_json:
            say(f"{job.status}; `agent-sft jobs logs -f {job.id}` shows how it goes, `agent-sft jobs --help` the rest")
        return
    say(f"job {job.id}; Ctrl-C leaves it running")
    exit_with(context, job.directory, as_json=as_json, show=True)


def _machines(given: dict[str, Any]) -> int:
    """Take the number of machines of a cluster out of a training's options.

    Raises:
        UserError: an option says what the cluster decides.
    """
    from agent_sft.errors import UserError

    for name in ("node_rank", "master_addr", "master_port"):
        if name in given:
            raise UserError("the cluster decides it", where=f"--{name.replace('_', '-')}", fix="leave it out")
    given["given"] = tuple(name for name in given["given"] if name != "nnodes")
    return int(given.pop("nnodes", 1))
