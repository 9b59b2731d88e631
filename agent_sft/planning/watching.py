"""Keeps a sweep within its budget: what was spent, and what is still to come by what was measured so far."""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import fmean

import msgspec

from agent_sft.planning.costs import hours_of
from agent_sft.planning.sweeps import Machine
from agent_sft.report.sweep.record import JobRecord, SweepRecord
from agent_sft.runs.processes import StopSignal
from agent_sft.sweep.outside import Opening, SweepReporter


class BudgetWatch:
    """Tells when a sweep would cost more than there is."""

    def __init__(
        self,
        budget: float | None,
        before: float,
        machine: Machine,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Watch over a budget.

        Args:
            budget: device-hours of the whole plan; None for no end of them.
            before: device-hours that were spent before this sweep.
            machine: by whose shares hours are counted.
            clock: tells the time.
        """
        self._budget, self._before, self._machine, self._clock = budget, before, machine, clock

    def too_dear(self, record: SweepRecord) -> str | None:
        """Return why a sweep must not go on; None where it may."""
        if self._budget is None:
            return None
        now = [self._with_time(job) for job in record.jobs]
        spent = self._before + hours_of(msgspec.structs.replace(record, jobs=now), self._machine)
        to_come = self._to_come(record, now)
        if spent + to_come <= self._budget:
            return None
        more = f", and about {to_come:.3g} are to come" if spent <= self._budget else ""
        return f"{spent:.3g} hours are spent{more}; the budget is {self._budget:.3g}: a larger one goes on"

    def _with_time(self, job: JobRecord) -> JobRecord:
        """Return a job with the time that has run of its attempt."""
        if job.state != "running" or job.started is None:
            return job
        seconds = max(0.0, (self._clock() - datetime.fromisoformat(job.started)).total_seconds())
        gpus = sum(one.startswith("gpu ") for one in job.devices)
        return msgspec.structs.replace(job, seconds=job.seconds + seconds, gpu_seconds=job.gpu_seconds + seconds * gpus)

    def _to_come(self, record: SweepRecord, now: list[JobRecord]) -> float:
        """Return the hours of what is not done, by what was done of the same kind; nothing is guessed."""
        done: dict[str, list[float]] = defaultdict(list)
        for job in record.jobs:
            if job.state == "done" and job.seconds:
                done[_kind(job)].append(hours_of(record, self._machine, [job.id]))
        total = 0.0
        for job in now:
            if job.state in ("waiting", "running") and done[_kind(job)]:
                begun = hours_of(msgspec.structs.replace(record, jobs=[job]), self._machine)
                total += max(0.0, fmean(done[_kind(job)]) - begun)
        return total


class Watched:
    """Shows a sweep through another reporter, and stops it when it gets too dear."""

    def __init__(self, inner: SweepReporter, watch: BudgetWatch, stop: StopSignal) -> None:
        self._inner, self._watch, self._stop = inner, watch, stop
        self.too_dear: str | None = None
        """Why it was stopped."""

    def say(self, text: str) -> None:
        """Show a line."""
        self._inner.say(text)

    def opens(self, opening: Opening) -> None:
        """Show what is going to happen."""
        self._inner.opens(opening)

    def show(self, record: SweepRecord, remaining: float | None) -> None:
        """Show how everything stands; stop it where the budget ends."""
        self._inner.show(record, remaining)
        if self.too_dear is None and (reason := self._watch.too_dear(record)) is not None:
            self.too_dear = reason
            self._inner.say(f"budget: {reason}")
            self._stop.number, self._stop.count = signal.SIGTERM, self._stop.count + 1

    def ended(self) -> None:
        """Nothing more is shown of how it stands."""
        self._inner.ended()


def _kind(job: JobRecord) -> str:
    """Return what jobs that take about the same have in common."""
    return job.kind if job.kind == "train" else f"{job.kind} {job.id.rpartition('/')[2]}"
