"""What a sweep will take: time as measured before, disk by the sizes of models; nothing is guessed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from agent_sft.config.sft import SFTConfig
from agent_sft.engines.deepspeed.config import read_config
from agent_sft.engines.llamafactory.memory import checkpoint_bytes, checkpoints_at_once
from agent_sft.engines.llamafactory.shape import model_shape
from agent_sft.engines.model_files import read_model
from agent_sft.errors import UserError
from agent_sft.report.sweep.record import JobRecord, read_record
from agent_sft.stages.doctor_fit import TINY_RUN_BYTES, existing_parent
from agent_sft.stages.plan import TrainingPlan
from agent_sft.sweep.graph import Job, SweepPlan
from agent_sft.sweep.jobs import BASE_JOB


@dataclass(frozen=True)
class DiskEstimate:
    """Bytes that trainings will write."""

    bytes: int
    """At the worst moment, of those whose size is known."""
    unknown: tuple[str, ...]
    """Jobs of unknown size, each with the reason."""
    free: int
    """On the disk of the sweep's folder."""


class Times:
    """How long jobs took in this sweep before, or are expected to take."""

    def __init__(self, out: Path, expected: Mapping[str, float] | None = None) -> None:
        """Read what is known of the sweep in a folder; nothing where there is none.

        Args:
            out: the folder.
            expected: seconds of jobs, by their ids, as somebody estimated them.
        """
        self._expected = expected or {}
        try:
            jobs = read_record(out).jobs
        except UserError:
            jobs = []
        self._jobs: Mapping[str, JobRecord] = {job.id: job for job in jobs if job.state == "done" and job.seconds > 0}

    def seconds(self, job: Job) -> float | None:
        """Return about how long a job will take: as it took, as was estimated, or as others of its kind took."""
        if job.id in self._jobs:
            return self._jobs[job.id].seconds
        if job.id in self._expected:
            return self._expected[job.id]
        alike = [one.seconds for one in self._jobs.values() if _sort(one.id) == _sort(job.id)]
        return fmean(alike) if alike else None


def _sort(job: str) -> tuple[str, ...]:
    """Return what jobs that take about the same time have in common."""
    kind, _, rest = job.partition("/")
    if kind in ("score", "evaluate"):
        return kind, rest.rpartition("/")[2]
    return (kind, rest) if kind == "prepare" or job == BASE_JOB else (kind,)


def disk_needed(plan: SweepPlan, trainings: Mapping[str, TrainingPlan], base: SFTConfig | None) -> DiskEstimate:
    """Estimate the disk that trainings take.

    Args:
        plan: the sweep.
        trainings: those that will run, by their jobs' ids.
        base: the training that the others start from.
    """
    known, unknown = 0, []
    for job, training in trainings.items():
        size = _training_bytes(training, base if job != BASE_JOB else None)
        if isinstance(size, str):
            unknown.append(f"{job}: {size}")
        else:
            known += size
    return DiskEstimate(known, tuple(unknown), shutil.disk_usage(existing_parent(plan.out)).free)


def _training_bytes(training: TrainingPlan, base: SFTConfig | None) -> int | str:
    """Return the bytes of a training's checkpoints and model at the worst moment, or why they are not known."""
    if training.is_tiny:
        return TINY_RUN_BYTES
    model = str(training.arguments["model_name_or_path"])
    if base is not None and not (Path(model) / "config.json").is_file():
        model = base.model
        if Path(model).suffix in (".yaml", ".yml") or model == "tiny":
            return TINY_RUN_BYTES
    shape = model_shape(_whole(model))
    if shape is None:
        return f"nothing here tells the size of {model}"
    stage = read_config(training.deepspeed).stage if training.deepspeed else None
    one, final = checkpoint_bytes(shape, training.arguments, stage)
    count = checkpoints_at_once(training.arguments)
    if count is None:
        return f"how many checkpoints of {one / (1 << 30):.1f} GiB it saves depends on the data"
    return final + one * count


def _whole(model: str) -> str:
    """Return the whole model under an adapter, or the model itself."""
    try:
        return read_model(model, Path(model), local=True).base or model
    except UserError:
        return model
