"""What becomes of a job whose attempt has ended: done, tried again, or failed for good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from agent_sft.sweep.failing import engine_logs, no_space_left, why_failed
from agent_sft.sweep.graph import Job, SweepPlan
from agent_sft.sweep.journal import Journal
from agent_sft.sweep.retrying import last_words, passing_cause, pause
from agent_sft.sweep.standing import Standing

MOST_LOSSES = 10
"""So often a job may lose the machine that it runs on; after that it may well be what takes machines down."""


class Judge:
    """Judges attempts by what they left, and counts those that failed."""

    def __init__(
        self,
        standing: Standing,
        journal: Journal,
        note_done: Callable[[SweepPlan, Job], str | None],
        say: Callable[[str], None],
        retry_seconds: float,
    ) -> None:
        """Get ready.

        Args:
            standing: is told what becomes of each job.
            journal: is told how each attempt ended.
            note_done: stamps a job whose command knows of no stamps, or tells what it did not make.
            say: is told what the user should know.
            retry_seconds: pause before the first retry of a job.
        """
        self._standing = standing
        self._journal = journal
        self._note_done = note_done
        self._say = say
        self._retry_seconds = retry_seconds
        self._failures: dict[str, int] = {}
        self._losses: dict[str, int] = {}

    def ended(
        self,
        job: Job,
        status: int,
        gpus: int,
        said: str | None = None,
        *,
        final: bool = False,
        lost: str | None = None,
        more: Sequence[Path] = (),
    ) -> None:
        """Take note of how an attempt ended.

        Args:
            job: that ended.
            status: its exit status.
            gpus: that it held.
            said: why it failed, where that was told.
            final: whether another try would end alike.
            lost: why, where the machine that it ran on is gone: that is no failure of its own.
            more: logs that may tell the cause, beside its own.
        """
        self._journal.ends(job.id, status, gpus)
        if status == 0:
            self._well(job)
            return
        plan = self._standing.plan
        log = plan.out / (self._journal[job.id].log or "")
        if lost is not None and self._losses.get(job.id, 0) < MOST_LOSSES:
            self._losses[job.id] = self._losses.get(job.id, 0) + 1
            self._say(f"{job.id}: {lost}; it goes on elsewhere")
            self._standing.again(job, lost, self._retry_seconds)
            return
        failures = self._failures[job.id] = self._failures.get(job.id, 0) + 1
        full = no_space_left(plan.out)
        logs = [log, *more, *engine_logs(plan, job, self._journal[job.id].started)]
        cause = None if final or full else passing_cause(job.kind, status, logs)
        reason = full or said or why_failed(log, status)
        if cause is None or failures > plan.config.retries:
            self.failed(job, reason, last_words(log))
            return
        seconds = pause(failures, self._retry_seconds)
        self._say(f"{job.id}: {reason} ({cause}); retry {failures} of {plan.config.retries} in {seconds:.0f} s")
        self._standing.again(job, f"{cause}: retry {failures} of {plan.config.retries}", seconds)

    def failed(self, job: Job, reason: str, shown: Sequence[str] = ()) -> None:
        """Let a job have failed for good, and say so with the end of its log."""
        self._standing.failed(job, reason)
        log = self._journal[job.id].log
        where = f"; the end of {self._standing.plan.out / log}:" if shown and log else ""
        self._say("\n".join([f"{job.id}: failed: {reason}{where}", *(f"  | {line}" for line in shown)]))

    def _well(self, job: Job) -> None:
        left = self._note_done(self._standing.plan, job) or self._standing.why_run(job)
        if left is None:
            self._standing.done(job)
            self._say(f"{job.id}: done in {self._journal[job.id].seconds:.0f} s")
        else:
            self.failed(job, f"it ended well and is not done: {left}")
