"""A job in Slurm: what is submitted is its supervisor, which runs in the allocation (see `in_allocation.py`)."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from agent_sft.config.slurm import FLAG, SlurmConfig
from agent_sft.config.yaml_files import validated
from agent_sft.engines.slurm import queue
from agent_sft.engines.slurm.script import Files, every_machine, one_machine
from agent_sft.engines.slurm.script import Job as Script
from agent_sft.engines.slurm.submit import submit
from agent_sft.files import write_json
from agent_sft.jobs.alive import is_alive
from agent_sft.jobs.record import FOLDER, LOG, SCRIPT, SUBMITTED, Attempt, Need, Spec, attempts_of
from agent_sft.runs.directory import now
from agent_sft.sweep.commands import runnable

IN_ALLOCATION = "agent_sft.jobs.in_allocation"


def slurm_need(config: SlurmConfig) -> Need:
    """Return what a job asks of Slurm."""
    return Need(executor="slurm", nodes=config.nodes, slurm=config.model_dump(mode="json", exclude_defaults=True))


def script_of(run: Path, spec: Spec, number: int) -> Script:
    """Return what is submitted for an attempt at a job.

    Args:
        run: the run's directory.
        spec: the job.
        number: of the attempt, from 1.

    Raises:
        UserError: what is written down of its submission cannot be used.
    """
    config = validated(FLAG, spec.need.slurm or {}, SlurmConfig)
    attempt = run / FOLDER / "attempts" / str(number)
    files = Files(attempt / SCRIPT, Path(str(attempt / LOG).replace("%", "%%")))
    supervisor = [sys.executable, "-P", "-m", IN_ALLOCATION, str(run), str(number)]
    name, folder, command = config.name or spec.id, Path(spec.folder), runnable(spec.command)
    if config.nodes == 1:
        return one_machine(config, name, folder, [*supervisor, *command], files)
    return every_machine(config, name, folder, command, files, under=supervisor)


def hand_in(run: Path, spec: Spec, attempt: Attempt) -> None:
    """Submit an attempt at a job.

    Raises:
        UserError: there is no sbatch here, or Slurm refuses what was asked for.
        WorkFailed: Slurm does not answer.
    """
    done = submit(script_of(run, spec, attempt.number), Path(spec.folder))
    write_json(attempt.path / SUBMITTED, {"at": now(), "id": done.id})
    queue.look_again()


def end_in_slurm(run: Path, *, at_once: bool) -> None:
    """End a job, and wait until it has ended.

    Args:
        run: the run's directory.
        at_once: do not wait for a checkpoint.

    Raises:
        UserError: there is no scancel here.
        WorkFailed: Slurm does not answer, or something of the job lives on.
    """
    attempt = attempts_of(run)[-1]
    while (submitted := attempt.fact(SUBMITTED)) is None:
        if not is_alive(run):
            return
        time.sleep(queue.POLL_SECONDS)  # it is being submitted
    queue.bring_to_end(str(submitted["id"]), lambda: is_alive(run), at_once=at_once)
