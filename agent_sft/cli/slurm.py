"""Submitting to Slurm in place of running here: the options, and what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent_sft.cli.executor_options import executor_option
from agent_sft.cli.show import say

if TYPE_CHECKING:
    from agent_sft.config.planning import PlanConfig
    from agent_sft.config.sft import SFTConfig
    from agent_sft.config.slurm import SlurmConfig
    from agent_sft.engines.slurm.script import Job
    from agent_sft.engines.slurm.submit import Submitted
    from agent_sft.sweep.graph import SweepPlan

SLURM_OPTION = click.option(
    "--slurm",
    multiple=True,
    metavar="KEY=VALUE",
    help="Of --executor slurm: partition, account, time, nodes, gpus_per_node, ...; or a YAML file of them.",
)
SLURM_OPTIONS = (
    SLURM_OPTION,
    click.option("--slurm-array", is_flag=True, help="An array of jobs that need nothing of each other."),
)
EXECUTOR = executor_option(
    "Where it runs: here, or submitted to Slurm (docs/slurm.md).  [default: local]", "local", "slurm"
)


def slurm_options(function: Any) -> Any:
    """Add the options of a submission to a command."""
    for option in reversed(SLURM_OPTIONS):
        function = option(function)
    return function


def check_left_to_slurm(resources: dict[str, Any]) -> None:
    """Refuse what only another executor takes; take out what depends on the machines that Slurm gives.

    Raises:
        UserError: something is given that the job decides.
    """
    from agent_sft.errors import UserError

    if "ray_address" in resources:
        fix = "leave it out: with --slurm nodes=2 and more the job starts Ray on its machines"
        raise UserError("is of a cluster that runs already", where="--ray-address", fix=fix)
    for name in ("nodes_per_train", "gpus_per_train", "gpus_per_serve"):
        resources.pop(name, None)  # this machine may have fewer; the command says it again in the allocation
    resources["executor"] = "local"


def slurm_of(options: dict[str, Any]) -> tuple[SlurmConfig | None, bool]:
    """Take what is Slurm's out of the options; return it, None where it is not asked for, and whether as an array.

    Raises:
        UserError: it is wrong, or given without `--executor slurm`.
    """
    from agent_sft.config.slurm import FLAG, read_slurm
    from agent_sft.errors import UserError
    from agent_sft.sweep.slurm import refuse_machines

    given, is_array = options.pop("slurm", ()), bool(options.pop("slurm_array", False))
    if options.get("executor") != "slurm":
        if given or is_array:
            flag = FLAG if given else "--slurm-array"
            raise UserError("is about a submission to Slurm", where=flag, fix="add --executor slurm, or leave it out")
        return None, False
    del options["executor"]
    refuse_machines(options)
    return read_slurm(given), is_array


def submit_training(config: SFTConfig, slurm: SlurmConfig, *, is_array: bool) -> None:
    """Submit a training, or with `--dry-run` show what would be submitted."""
    from agent_sft.sweep.slurm import training_array, training_job

    _submit((training_array if is_array else training_job)(config, slurm), dry_run=config.dry_run)


def submit_sweep(plan: SweepPlan, slurm: SlurmConfig, words: list[str], *, is_array: bool, dry_run: bool) -> None:
    """Submit a sweep, or with `--dry-run` show what would be submitted.

    Args:
        plan: what there is to do.
        slurm: what to ask of Slurm.
        words: of the command line.
        is_array: whether each variant is a job of its own.
        dry_run: whether it is only shown.
    """
    from agent_sft.sweep.slurm import sweep_array, sweep_job

    if is_array:
        _submit(sweep_array(plan, slurm), dry_run=dry_run)
        if not dry_run:
            say("when all have ended, the same command without --executor slurm makes the report")
    else:
        _submit(sweep_job(plan, slurm, words, dry_run=dry_run), dry_run=dry_run)


def submit_plan(config: PlanConfig, slurm: SlurmConfig, words: list[str], *, dry_run: bool = False) -> None:
    """Submit a command that carries a plan out, or with `dry_run` show what would be submitted.

    Args:
        config: the plan.
        slurm: what to ask of Slurm.
        words: of the command line.
        dry_run: whether it is only shown.

    Raises:
        UserError: the plan is under way.
    """
    from agent_sft.planning.folder import PlanFolder
    from agent_sft.planning.on_slurm import check_at_rest, submitted
    from agent_sft.sweep.slurm import command_job

    folder = PlanFolder(config.out)
    check_at_rest(folder)
    done = _submit(command_job(slurm.name or config.name, slurm, words, dry_run=dry_run), dry_run=dry_run)
    if done is not None:
        submitted(folder, config, slurm, done)
        say(
            f"  agent-sft plan status {folder.path.name}        how the plan stands: it ends where it needs an approval"
        )


def _submit(job: Job, *, dry_run: bool) -> Submitted | None:
    from agent_sft.engines.slurm.submit import submit

    if dry_run:
        click.echo(job.script, nl=False)
        return None
    done = submit(job, Path.cwd())
    click.echo(done.id)
    say(f"submitted {done.script.relative_to(Path.cwd())} as job {done.id}; to watch it:")
    for line in done.how_to_watch():
        say(f"  {line}")
    return done
