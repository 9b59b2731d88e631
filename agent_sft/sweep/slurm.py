"""Trainings and sweeps as jobs of Slurm: which commands run in the allocation, on what."""

from __future__ import annotations

import shlex
from collections.abc import Container, Sequence
from pathlib import Path

from agent_sft.config.sft import SFTConfig
from agent_sft.config.slurm import SlurmConfig
from agent_sft.engines.environments import engine_python, environment_folder, given_python
from agent_sft.engines.slurm.script import Job, Task, array, every_machine, on_ray, one_machine
from agent_sft.engines.slurm.words import within
from agent_sft.errors import UserError
from agent_sft.stages.plan import build_plan
from agent_sft.sweep.commands import PROGRAM, runnable, training_command
from agent_sft.sweep.doneness import reasons
from agent_sft.sweep.graph import SweepPlan
from agent_sft.sweep.patterns import expand, plain

ARRAY = "--slurm-array"
_MACHINES = ("nnodes", "node_rank", "master_addr", "master_port")


def training_job(config: SFTConfig, slurm: SlurmConfig) -> Job:
    """Return the job of one training, on one machine or on several.

    Raises:
        UserError: it cannot be trained like that, or Slurm decides what was given.
    """
    check_training(config)
    name = slurm.name or "-".join(_output(config).parts[-2:])
    make = one_machine if slurm.nodes == 1 else every_machine
    return make(slurm, name, Path.cwd(), runnable(training_command(config)))


def training_array(config: SFTConfig, slurm: SlurmConfig) -> Job:
    """Return an array with a training for each input.

    Raises:
        UserError: there is no input, several would train into one folder, or something is wrong with one of them.
    """
    check_training(config)
    _check_one_machine(slurm)
    tasks: dict[Path, Task] = {}
    by_data = "output_dir" not in config.given and "dataset_name" not in config.given
    for name in [match.name for pattern in config.input for match in expand(pattern, ARRAY)]:
        named = {"dataset_name": plain(Path(name).stem), "given": (*config.given, "dataset_name")} if by_data else {}
        one = config.model_copy(update={"input": (name,), **named})
        place = _output(one)
        if place in tasks:
            fix = "leave --output-dir and --dataset-name out: each training then has a folder by its data"
            raise UserError(f"{tasks[place].name} and {name} would be trained in {place}", where=ARRAY, fix=fix)
        tasks[place] = Task(name, (runnable(training_command(one)),))
    if not tasks:
        raise UserError("there is no input", where=ARRAY, fix="name files, or a pattern: a job for each of them")
    return array(slurm, slurm.name or "trainings", Path.cwd(), list(tasks.values()))


def sweep_job(plan: SweepPlan, slurm: SlurmConfig, words: Sequence[str], *, dry_run: bool) -> Job:
    """Return the job of a sweep, by `command_job`."""
    return command_job(slurm.name or plan.config.name, slurm, words, dry_run=dry_run)


def command_job(name: str, slurm: SlurmConfig, words: Sequence[str], *, dry_run: bool) -> Job:
    """Return the job of a command that runs stages: on one machine as it is, on several on Ray, which the job starts.

    Args:
        name: of the job.
        slurm: what to ask of Slurm.
        words: the command line, without the program.
        dry_run: whether it is only shown: the environment of Ray is then not made.
    """
    command = runnable([PROGRAM, *within(words), "--executor"])
    if slurm.nodes == 1:
        return one_machine(slurm, name, Path.cwd(), [*command, "local"])
    ray = (given_python("ray") or environment_folder("ray") / "bin" / "python") if dry_run else engine_python("ray")
    return on_ray(slurm, name, Path.cwd(), [*command, "ray", "--ray-address"], ray)


def sweep_array(plan: SweepPlan, slurm: SlurmConfig) -> Job:
    """Return an array with a job for each variant that has something to do: trained, and then evaluated.

    Raises:
        UserError: nothing is to do, something has to be done before that all variants need, or what is evaluated is
            only known when a training has ended.
    """
    _check_one_machine(slurm)
    why = reasons(plan)
    shared = [job for job in plan.of_variant.get(None, ()) if why[job.id] is not None]
    if shared:
        names = ", ".join(job.id for job in shared)
        commands = "; ".join(shlex.join(job.command) for job in shared)
        fix = f"leave {ARRAY} out, or do that first: {commands}"
        raise UserError(f"all variants need {names}, and the jobs of an array do not wait", where=ARRAY, fix=fix)
    if plan.config.checkpoints != "final":
        what = f"with checkpoints: {plan.config.checkpoints} it is known only later what is evaluated"
        raise UserError(what, where=ARRAY, fix=f"leave {ARRAY} out")
    tasks = [
        Task(variant.name, tuple(runnable(job.command) for job in jobs))
        for variant in plan.variants
        if (jobs := [job for job in plan.of_variant[variant.name] if why[job.id] is not None])
    ]
    if not tasks:
        fix = "the same command without --executor slurm makes the report"
        raise UserError("all is done already", where=ARRAY, fix=fix)
    return array(slurm, slurm.name or plan.config.name, Path.cwd(), tasks)


def _output(config: SFTConfig) -> Path:
    """Return the folder that a training goes to, when all that can be checked here is as it must be."""
    return build_plan(config.model_copy(update={"dry_run": True})).output_dir


def check_training(config: SFTConfig) -> None:
    """Refuse options of a training that Slurm decides, or that would undo what an earlier turn of it did.

    Raises:
        UserError: one is given.
    """
    refuse_machines(config.given)
    if config.fresh:
        what = "a job that goes back into the queue would start over each time"
        raise UserError(what, where="--fresh", fix="move the earlier result away, or choose another --output-dir")


def refuse_machines(names: Container[str]) -> None:
    """Refuse the options by which a training's machines are started by hand.

    Raises:
        UserError: one of them is among the names of what is given.
    """
    for name in _MACHINES:
        if name in names:
            fix = "leave it out: --slurm nodes=N says how many machines train"
            raise UserError("is for machines that are started by hand", where=f"--{name.replace('_', '-')}", fix=fix)


def _check_one_machine(slurm: SlurmConfig) -> None:
    if slurm.nodes > 1:
        fix = f"leave {ARRAY} out, or nodes"
        raise UserError("each job of an array runs on one machine", where=f"{ARRAY}, nodes={slurm.nodes}", fix=fix)
