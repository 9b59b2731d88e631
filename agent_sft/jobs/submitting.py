"""Jobs are submitted: written down, given a place in the queue, and left to a supervisor of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from agent_sft.config.sft import SFTConfig
from agent_sft.config.slurm import SlurmConfig
from agent_sft.config.sweep import ResourcesConfig
from agent_sft.data.capabilities import capability_store
from agent_sft.data.store import Store, is_reference
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import unwritable
from agent_sft.jobs.alive import is_alive
from agent_sft.jobs.index import job_name, release, reserve
from agent_sft.jobs.on_slurm import hand_in, script_of, slurm_need
from agent_sft.jobs.record import FOLDER, Attempt, Need, Spec, attempts_of, lock_of, record_of
from agent_sft.jobs.status import Job, job_in
from agent_sft.runs.devices import visible_gpus
from agent_sft.runs.directory import check_is_directory, now
from agent_sft.runs.lock import is_held, run_lock
from agent_sft.runs.queue import join_queue
from agent_sft.stages.plan import TrainingPlan, build_plan
from agent_sft.sweep.commands import runnable, training_command
from agent_sft.sweep.resources import Resources, resources_of
from agent_sft.sweep.slurm import check_training

SLOTS_VARIABLE = "AGENT_SFT_JOBS"
SUPERVISOR = "agent_sft.jobs.supervisor"


def plan_training(config: SFTConfig, cluster: Resources | None = None) -> tuple[SFTConfig, TrainingPlan]:
    """Return the options of a training as its job runs it, and what it will do; nothing is started or written.

    An adapter is trained where its shape is given, and data that is not called anything is called by its name, so that
    jobs on other data have other directories. The latest version of something is the one that is the latest now.

    Args:
        config: the options, those that were given in its `given`.
        cluster: what it takes of a cluster; None where it runs on this machine.

    Raises:
        UserError: what is asked for cannot work.
    """
    more: dict[str, object] = {}
    pinned: dict[str, object] = {}
    if "finetuning_type" not in config.given and {"lora_rank", "lora_alpha", "lora_target"} & set(config.given):
        more["finetuning_type"] = "lora"
    for name in ("input", "dataset", "trajectory_dataset"):
        if given := getattr(config, name):
            pinned[name] = tuple(_pinned(one, Store.at) for one in given)
    if config.eval_dataset is not None:
        pinned["eval_dataset"] = _pinned(config.eval_dataset, Store.at)
    if config.capability is not None:
        pinned["capability"] = _pinned(config.capability, capability_store)
    config = config.model_copy(update=pinned)
    if "dataset_name" not in config.given and config.config is None:
        more["dataset_name"] = _data_name(config)
    if cluster is not None:
        more |= {name: value for name, value in cluster.launch.items() if name not in config.given}
    config = config.model_copy(update={**more, "given": (*config.given, *more)})
    gpus = None if cluster is None else cluster.gpus[: config.nproc_per_node]
    plan = build_plan(config.model_copy(update={"dry_run": True}), gpus=gpus)
    return config, plan


def submit_training(
    config: SFTConfig,
    *,
    gpus: int | None = None,
    slots: int | None = None,
    cluster: ResourcesConfig | None = None,
    slurm: SlurmConfig | None = None,
) -> Job:
    """Submit a training; return its job, which waits or runs.

    Args:
        config: the options, those that were given in its `given`.
        gpus: how many GPUs it takes; all that are visible when None.
        slots: jobs at a time on this machine where there is no GPU.
        cluster: the cluster that it runs on, and what it takes of each machine there; None for this machine.
        slurm: what is asked of Slurm; None where it does not run there.

    Raises:
        UserError: what is asked for cannot work, or the directory's job lives.
        WorkFailed: Slurm does not answer.
    """
    resources = None if cluster is None else cluster_resources(cluster)
    if slurm is not None:
        check_training(config)
    config, plan = plan_training(config, resources)
    run = plan.output_dir.resolve()
    if slurm is not None:
        need = slurm_need(slurm)
    elif cluster is not None and resources is not None:
        need = cluster_need(cluster, resources)
    else:
        need = machine_need(gpus, slots)
    known = Spec.read(run)
    command = training_command(config)
    if known is not None and known.command != command and job_in(run).status == "succeeded":
        what = f"the job {known.id} was trained here with other options"
        raise UserError(what, where=str(plan.output_dir), fix="choose another --output-dir")
    return submit(run, "sft", command, need)


def slurm_script(config: SFTConfig, slurm: SlurmConfig) -> str:
    """Return what would be submitted to Slurm for a training; nothing is written.

    Raises:
        UserError: what is asked for cannot work.
    """
    check_training(config)
    config, plan = plan_training(config)
    run = plan.output_dir.resolve()
    spec = Spec(job_name(run), "sft", training_command(config), str(Path.cwd()), slurm_need(slurm), now())
    return script_of(run, spec, len(attempts_of(run)) + 1).script


def submit(run: Path, kind: str, command: Sequence[str], need: Need, *, folder: Path | None = None) -> Job:
    """Submit a command as the job of a directory: a new one, or the next attempt at the one that is there.

    Args:
        run: the directory; made if it is missing.
        kind: see `Spec.kind`.
        command: as a person would type it.
        need: what it takes of the machine.
        folder: where the command runs; this one when None.

    Raises:
        UserError: the directory's job lives, another process is at work in it, or it cannot be written.
    """
    run = run.resolve()
    check_is_directory(run)
    lock = lock_of(run)
    if is_alive(run):
        job = job_in(run)
        raise UserError(f"the job {job.id} is {job.status}", where=str(run), fix=f"see `agent-sft jobs get {job.id}`")
    if is_held(run / ".lock"):
        raise UserError("another process is at work there", where=str(run), fix="choose another --output-dir")
    new = [place for place in (run, *run.parents) if not place.exists()]
    with run_lock(lock, f"see `agent-sft jobs get {run}`") as held:
        known = Spec.read(run)
        first = known.submitted if known is not None else now()
        spec = Spec(reserve(run), kind, tuple(command), str(folder or Path.cwd()), need, first)
        spec.write(run)
        record = record_of(run)
        attempt = record.new_attempt()
        if need.executor == "slurm":
            try:
                hand_in(run, spec, Attempt(attempt))
            except (UserError, WorkFailed):
                _take_back(run, attempt, known, new)
                raise
        record.record("job submitted", attempt=int(attempt.name), command=spec.command)
        if need.executor != "slurm":
            _start(run, attempt / "log", runnable(spec.command), held, spec)
    return job_in(run)


def _take_back(run: Path, attempt: Path, known: Spec | None, new: Sequence[Path]) -> None:
    """Leave a directory as it was before an attempt that Slurm refused.

    Args:
        run: the directory.
        attempt: the attempt's folder.
        known: the job that was there before; None where there was none.
        new: folders that were not there before, the innermost first.
    """
    if known is not None:
        shutil.rmtree(attempt)
        known.write(run)
        return
    release(run)
    shutil.rmtree(run / FOLDER)
    for place in new:
        place.rmdir()


def machine_need(gpus: int | None, slots: int | None) -> Need:
    """Return what a job takes of this machine: GPUs, or one of its slots where there is none.

    Args:
        gpus: how many; all that are visible when None.
        slots: how many jobs run at a time where there is no GPU; `AGENT_SFT_JOBS`, or one, when None.

    Raises:
        UserError: there are not so many GPUs, or a number makes no sense.
    """
    there = visible_gpus()
    if gpus is not None and not 1 <= gpus <= len(there):
        raise UserError(f"{gpus} GPUs are asked for, {len(there)} are visible", where="--gpus")
    if there:
        if slots is not None:
            raise UserError("the slots are the GPUs here", where="--slots", fix="--gpus says how many a job takes")
        return Need(tuple(gpu.uuid for gpu in there), gpus or len(there), gpus=True)
    if slots is None:
        given = os.environ.get(SLOTS_VARIABLE) or "1"
        if not given.isdigit():
            raise UserError(f"'{given}' is no number of jobs", where=SLOTS_VARIABLE)
        slots = int(given)
    if slots < 1:
        raise UserError("at least one job runs at a time", where="--slots")
    return Need(tuple(f"slot-{number}" for number in range(slots)))


def cluster_asked(
    executor: str | None, address: str | None, *, gpus: int | None, slots: int | None, nodes: int = 1
) -> ResourcesConfig | None:
    """Return what a job is to have of a cluster; None where it runs on this machine.

    Args:
        executor: `ray`; `slurm`, or `local`, which None stands for.
        address: of the Ray cluster; the one that runs on this machine when None.
        gpus: of each machine; all of the largest when None.
        slots: of this machine: they are none of a cluster's.
        nodes: machines that train together.

    Raises:
        UserError: these contradict each other.
    """
    if executor != "ray":
        if address is not None:
            raise UserError("it is of a cluster", where="--ray-address", fix="give --executor ray with it")
        if executor == "slurm":
            for where, number in (("--gpus", gpus), ("--slots", slots)):
                if number is not None:
                    raise UserError("Slurm gives the machines", where=where, fix="see --slurm gpus_per_node=N")
        return None
    if slots is not None:
        raise UserError("slots are of this machine", where="--slots", fix="--gpus says what it takes of a cluster's")
    for where, number in (("--gpus", gpus), ("--nnodes", nodes)):
        if number is not None and number < 1:
            raise UserError(f"at least one is needed, not {number}", where=where)
    return ResourcesConfig(executor="ray", ray_address=address, gpus_per_train=gpus, nodes_per_train=nodes)


def cluster_resources(cluster: ResourcesConfig) -> Resources:
    """Return what a job has of a cluster.

    Raises:
        UserError: the cluster cannot be used, or has not as much.
    """
    try:
        return resources_of(cluster, "")
    except UserError as error:
        where = next((flag for key, flag in _FLAGS.items() if error.where is not None and key in error.where), None)
        if where is None:
            raise
        raise UserError(error.what, where=where, fix="ask for less, or wait for more machines to join") from error


_FLAGS = {"gpus_per_train": "--gpus", "nodes_per_train": "--nnodes"}


def cluster_need(cluster: ResourcesConfig, resources: Resources) -> Need:
    """Return what a job takes of a cluster."""
    train = resources.train
    return Need(
        count=train.gpus or train.cores,
        gpus=train.gpus > 0,
        executor="ray",
        address=cluster.ray_address,
        nodes=train.nodes,
    )


def _start(run: Path, log: Path, command: list[str], lock: int, spec: Spec) -> None:
    """Start the supervisor, which has what we hold from us and goes on by itself."""
    ticket = join_queue(spec.id) if spec.need.executor == "local" else None
    place = (str(ticket.path), str(ticket.descriptor)) if ticket is not None else ("", "")
    arguments = [str(run), str(lock), *place, *command]
    try:
        with log.open("ab") as stream:
            started = subprocess.run(
                [sys.executable, "-P", "-m", SUPERVISOR, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                pass_fds=(lock, *([ticket.descriptor] if ticket is not None else [])),
                check=False,
            )
    except OSError as error:
        raise unwritable(log, error) from error
    finally:
        if ticket is not None:
            os.close(ticket.descriptor)
    if started.returncode:
        raise UserError("its supervisor cannot be started", where=str(log))


def _pinned(given: str, store: Callable[[], Store]) -> str:
    """Return NAME@VERSION for what names a stored version; anything else as it is."""
    return store().card(given).reference if is_reference(given) else given


def _data_name(config: SFTConfig) -> str:
    """Return a name for a training's data: that of the first place it comes from."""
    first = next(iter((*config.input, *config.dataset, *config.trajectory_dataset)))
    name = first.replace("@", "-") if is_reference(first) else Path(first).name.split(".")[0]
    return re.sub(r"[^\w.-]+", "_", name).strip("._-") or "data"
