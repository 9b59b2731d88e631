"""What is known of a sweep while it runs: kept for the scheduler, written for everybody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from agent_sft.errors import UserError
from agent_sft.files import write_atomic
from agent_sft.report.sweep.record import (
    JobRecord,
    State,
    SweepRecord,
    VariantRecord,
    journal_bytes,
    read_record,
    write_record,
)
from agent_sft.runs.directory import RunDirectory, now
from agent_sft.sweep.graph import Job, SweepPlan
from agent_sft.sweep.recording import (
    JobState,
    gone_on_with,
    job_record,
    machine,
    variant_record,
    versions,
    without_times,
)
from agent_sft.sweep.slots import Share

CONFIG = "sweep.yaml"


class Journal:
    """The sweep's `sweep.json` and `events.jsonl`. A disk that refuses them is told once and stops nothing."""

    def __init__(self, plan: SweepPlan, command: Sequence[str], say: Callable[[str], None]) -> None:
        """Go on with what an earlier run of the sweep wrote down."""
        self._folder = plan.out
        self._command = list(command)
        self._say = say
        self._before = _known(plan.out)
        before = self._before
        self._jobs = {job.id: gone_on_with(job, before.updated) for job in before.jobs} if before else {}
        self._started = self._before.started if self._before else now()
        self._machine = self._before.machine if self._before else {}
        self._versions = self._before.versions if self._before else {}
        self.ran = False
        """Whether anything was started."""
        self.changed = False
        """Whether there is something that `sweep.json` does not say yet."""
        self._written: SweepRecord | None = None
        self._settings: dict[str, Any] | None = None
        self._job_records: dict[str, tuple[Job, JobRecord]] = {}
        self._variant_records: dict[str, tuple[tuple[Job, ...], VariantRecord]] = {}
        """What was made of each, dropped when one of its jobs stands otherwise: most stay from record to record."""
        self._variant_of: dict[str, str] = {}
        self.events = 0
        """How many lines were written into the journal since this process began."""
        self._finished: str | None = None
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
        state = self._touched(job)
        state.state, state.attempts, state.started, state.finished = "running", state.attempts + 1, now(), None
        state.devices, state.log, state.reason = share.words, str(log.relative_to(self._folder)), reason
        state.begun, self.changed = time.monotonic(), True
        if not self.ran:
            self.ran, self._machine, self._versions = True, machine(), versions()
        self.event("job started", job=job, attempt=state.attempts, reason=reason, devices=share.words, log=state.log)

    def placed(self, job: str, devices: list[str]) -> None:
        """Note what a job was given to run on, where only a cluster could tell."""
        if self[job].devices != devices:
            self._touched(job).devices, self.changed = devices, True
            self.event("job placed", job=job, devices=devices)

    def ends(self, job: str, status: int, gpus: int) -> None:
        """Note that an attempt ended.

        Args:
            job: its id.
            status: its exit status.
            gpus: that it held.
        """
        known = self._touched(job)
        seconds = time.monotonic() - known.begun if known.begun is not None else 0.0
        known.finished, known.begun = now(), None
        known.seconds += seconds
        known.gpu_seconds += seconds * gpus
        self.event("job ended", job=job, exit_code=status, seconds=round(seconds, 3), gpus=gpus)

    def settle(self, job: str, state: State, reason: str | None) -> None:
        """Note what a job is now, and why it is not done."""
        known = self[job]
        if (known.state, known.reason) == (state, reason):
            return
        if self.ran:
            self.event("job is", job=job, state=state, reason=reason)
        self._touched(job)
        known.state, known.reason = state, reason
        self.changed = True

    def event(self, name: str, **details: Any) -> None:
        """Write a line into the journal."""
        self.events += 1
        self._guarded(lambda: RunDirectory(self._folder).record(name, **details))

    def keep_config(self, plan: SweepPlan) -> None:
        """Write the resolved sweep file."""
        text = yaml.safe_dump(plan.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        self._guarded(lambda: write_atomic(self._folder / CONFIG, text))

    def save(self, plan: SweepPlan, *, finished: bool = False) -> bool:
        """Write `sweep.json`; return whether it says anything new."""
        record = self.record(plan, finished=finished)
        same = without_times(record) == without_times(self._written or self._before)
        if not same or self._written is None:
            self._guarded(lambda: write_record(self._folder, record))
        self._written, self.changed = record, False
        return not same

    def record(self, plan: SweepPlan, *, finished: bool = False) -> SweepRecord:
        """Return all that is known now."""
        config = plan.config
        self._settings = self._settings or config.model_dump(mode="json")
        return SweepRecord(
            name=config.name,
            question=config.question,
            varied=config.varied,
            baseline=plan.baseline,
            evaluators=list(plan.evaluators),
            gpu_price=config.gpu_price,
            started=self._started,
            updated=now(),
            finished=self._ended() if finished else None,
            command=self._command,
            folder=str(Path.cwd()),
            settings=self._settings,
            machine=self._machine,
            versions=self._versions,
            jobs=[self._job(job) for job in plan.jobs],
            variants=[self.variant(plan, variant.name) for variant in plan.variants],
            events=journal_bytes(self._folder),
        )

    def variant(self, plan: SweepPlan, name: str) -> VariantRecord:
        """Return what is known of a variant now."""
        jobs = plan.of_variant.get(name, ())
        made_of, record = self._variant_records.get(name, (None, None))
        if record is None or made_of != jobs:
            record = variant_record(plan, plan.variant(name))
            self._variant_records[name] = jobs, record
            self._variant_of |= dict.fromkeys((job.id for job in jobs), name)
        return record

    def _job(self, job: Job) -> JobRecord:
        made_of, record = self._job_records.get(job.id, (None, None))
        if record is None or made_of is not job:
            record = job_record(job, self[job.id])
            self._job_records[job.id] = job, record
        return record

    def _touched(self, job: str) -> JobState:
        """Return how a job stands, to be changed: what was made of that does not hold any more."""
        self._job_records.pop(job, None)
        self._variant_records.pop(self._variant_of.get(job, ""), None)
        return self[job]

    def _ended(self) -> str:
        """Return when the sweep ended: once and for all, and before this run where it did nothing."""
        known = self._before
        self._finished = self._finished or (known.finished if known and not self.ran else None) or now()
        return self._finished

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
