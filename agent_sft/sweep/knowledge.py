"""What the scheduler asks, answered by the parts of the package that know it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agent_sft.errors import UserError, WorkFailed
from agent_sft.sweep.doneness import Doneness, training_plan
from agent_sft.sweep.estimate import Times, disk_needed
from agent_sft.sweep.graph import Job, SweepPlan
from agent_sft.sweep.jobs import JobMaker, base_training
from agent_sft.sweep.outside import Outside
from agent_sft.sweep.plan import maker_of, with_checkpoints
from agent_sft.sweep.preparing import stamp_prepare
from agent_sft.sweep.resources import Resources


class _Known:
    """Looks at a plan once, however many of its jobs are asked about: its variants and settings stay as they are."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._doneness: Doneness | None = None
        self._maker: JobMaker | None = None

    def doneness(self, plan: SweepPlan) -> Doneness:
        self._doneness = self._doneness or Doneness(plan)
        return self._doneness

    def with_checkpoints(self, plan: SweepPlan, variant: str) -> SweepPlan:
        return with_checkpoints(plan, variant, lambda: self._made(plan))

    def _made(self, plan: SweepPlan) -> JobMaker:
        self._maker = self._maker or maker_of(plan)
        return self._maker

    def why_run(self, plan: SweepPlan, job: Job) -> str | None:
        return self.doneness(plan).why_run(job)

    def needed_bytes(self, plan: SweepPlan, job: Job) -> int | None:
        """Return what a training writes; None where nothing tells."""
        try:
            training = training_plan(self.doneness(plan).training(job), self._resources.gpus)
            base = base_training(plan.config, plan.out, self._resources.launch)
            needed = disk_needed(plan, {job.id: training}, base)
        except (UserError, WorkFailed):
            return None  # the job itself says what is wrong
        return None if needed.unknown else needed.bytes


def usual(plan: SweepPlan, resources: Resources, expected: Mapping[str, float] | None = None) -> Outside:
    """Return what is known of a plan's jobs on this machine.

    Args:
        plan: what there is to do.
        resources: what of the machine may be used.
        expected: seconds of jobs, by their ids, as estimated by others.
    """
    known = _Known(resources)
    return Outside(
        why_run=known.why_run,
        with_checkpoints=known.with_checkpoints,
        write_report=_write_report,
        note_done=_note_done,
        expected_seconds=Times(plan.out, expected).seconds,
        needed_bytes=known.needed_bytes,
    )


def _write_report(folder: Path, complete: bool) -> None:
    # Its statistics take most of a second to import; nothing else that a sweep does needs them.
    from agent_sft.report.sweep.writing import write_report

    write_report(folder, viewer=complete)


def _note_done(plan: SweepPlan, job: Job) -> str | None:
    """Stamp a command that has made what it was to make; else tell what is missing."""
    if job.kind != "prepare":
        return None
    number = int(job.id.rpartition("/")[2])
    missing = stamp_prepare(plan.out, number, plan.config.prepare[number])
    return f"it did not make {', '.join(missing)}" if missing else None
