"""How the jobs of a sweep stand: done, ready with a reason, waiting for others, failed, or skipped."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from agent_sft.errors import UserError, WorkFailed
from agent_sft.report.sweep.record import State
from agent_sft.sweep.graph import Job, SweepPlan
from agent_sft.sweep.journal import Journal
from agent_sft.sweep.outside import Outside

OVER = ("done", "failed", "skipped")


@dataclass(frozen=True)
class Ready:
    """A job that may start."""

    reason: str
    """Why it has to run."""
    due: float = 0.0
    """`time.monotonic()` before which it does not start."""


class Standing:
    """The plan and the state of each of its jobs. Whether one is done is asked of what it left, each time anew."""

    def __init__(self, plan: SweepPlan, outside: Outside, journal: Journal) -> None:
        """Begin with nothing known."""
        self.plan = plan
        self.ready: dict[str, Ready] = {}
        self._outside = outside
        self._journal = journal
        self._told: set[str] = set()
        self._unknown = {job.id for job in plan.jobs}
        self._look_at = dict.fromkeys(job.id for job in plan.jobs)
        """Jobs of the unknown that something has happened to since they were looked at, in order."""
        self._ended: dict[str | None, None] = {variant.name: None for variant in plan.variants}
        """Variants of which something is over since it was asked which are finished."""
        self._below: dict[str, int] = {}
        self._open: Counter[str | None] = Counter()
        """Jobs of each server that are not over; with None, those of none."""
        for job in plan.jobs:
            journal[job.id].state = "waiting"
        self._count()

    @property
    def settled(self) -> bool:
        """Whether every job is done, failed or skipped."""
        return not self._open.total()

    def comes(self, server: str | None) -> bool:
        """Tell whether there are jobs for a server that are not over; with None, jobs without one."""
        return self._open[server] > 0

    def state(self, job: str) -> str:
        """Return a job's state."""
        return self._journal[job].state

    def seconds(self, job: str) -> float:
        """Return how long all attempts of a job took that have ended."""
        return self._journal[job].seconds

    def begun(self, job: str) -> float | None:
        """Return `time.monotonic()` of the start of the attempt that runs; None where none does."""
        return self._journal[job].begun

    def settle(self) -> None:
        """Find out of every job whose needs are met whether it is done, and of every other what becomes of it."""
        while self._look_at:
            name = next(iter(self._look_at))
            del self._look_at[name]
            if name in self._unknown:
                self._judge(self.plan.job(name))

    def done(self, job: Job) -> None:
        """Take note that a job is done: what its training left decides which checkpoints are scored."""
        self._over(job, "done", None)
        if job.kind != "train" or job.variant is None:
            return
        try:
            plan = self._outside.with_checkpoints(self.plan, job.variant)
        except UserError as error:
            for other in self.plan.of_variant[job.variant]:
                if other.kind in ("score", "evaluate"):
                    self.failed(other, error.what)
                    self._unknown.discard(other.id)
            return
        if plan is not self.plan:
            self._look_at |= dict.fromkeys(one.id for one in plan.jobs if one.id not in self.plan.places)
            self.plan = plan
            self._count()

    def failed(self, job: Job, reason: str) -> None:
        """Take note that a job failed for good."""
        self._over(job, "failed", reason)

    def again(self, job: Job, reason: str, pause: float = 0.0) -> None:
        """Let a job be started again after a pause, in seconds."""
        self._journal.settle(job.id, "waiting", reason)
        self.ready[job.id] = Ready(reason, time.monotonic() + pause)

    def why_run(self, job: Job) -> str | None:
        """Return why a job has to run; None where it is done."""
        try:
            return self._outside.why_run(self.plan, job)
        except (UserError, WorkFailed) as error:
            # The job itself says so in its log, complete.
            return str(error).splitlines()[0]

    def newly_finished(self) -> list[str]:
        """Return the variants all of whose jobs are done since the last call."""
        asked, self._ended = self._ended, {}
        found = []
        for name in asked:
            jobs = self.plan.of_variant.get(name, ())
            if name is not None and name not in self._told and all(self.state(job.id) == "done" for job in jobs):
                self._told.add(name)
                found.append(name)
        return found

    def startable(self) -> list[Job]:
        """Return the jobs that may start now, the most urgent first.

        First what all variants need, then evaluations, whose results are what is waited for, then what the most other
        jobs wait for, in the order of the plan.
        """
        now, places = time.monotonic(), self.plan.places
        names = sorted((name for name, ready in self.ready.items() if ready.due <= now), key=places.__getitem__)
        jobs = [self.plan.job(name) for name in names]
        jobs.sort(key=lambda job: (_urgency(job), -self._waiting(job)))
        return jobs

    def _waiting(self, job: Job) -> int:
        """Return how many jobs wait for one, directly or not."""
        if job.id not in self._below:
            self._below[job.id] = len(_below(self.plan, job.id))
        return self._below[job.id]

    def _over(self, job: Job, state: State, reason: str | None) -> None:
        """Take note that a job is done, failed or skipped, once and for all."""
        if self.state(job.id) not in OVER:
            self._open[job.server] -= 1
        self._journal.settle(job.id, state, reason)
        self.ready.pop(job.id, None)
        self._ended[job.variant] = None
        self._look_at |= dict.fromkeys(other.id for other in self.plan.waiting_for.get(job.id, ()))

    def _count(self) -> None:
        """Count what is not over, and what is not known, of a plan that is another one now."""
        self._below.clear()
        states = {job.id: self.state(job.id) for job in self.plan.jobs}
        self._open = Counter(job.server for job in self.plan.jobs if states[job.id] not in OVER)
        self._unknown = {name for name, state in states.items() if state == "waiting" and name not in self.ready}
        self.ready = {name: ready for name, ready in self.ready.items() if name in states}

    def _judge(self, job: Job) -> None:
        """Find out how a job stands whose state is not known."""
        needs = {name: self.state(name) for name in job.after}
        lost = [name for name, state in needs.items() if state in ("failed", "skipped")]
        if lost:
            self._unknown.discard(job.id)
            self._over(job, "skipped", f"{lost[0]} {needs[lost[0]]}")
        elif all(state == "done" for state in needs.values()):
            self._unknown.discard(job.id)
            reason = self.why_run(job)
            if reason is None:
                self.done(job)
            else:
                self.again(job, reason)


def _urgency(job: Job) -> int:
    if job.variant is None:
        return 0
    return 1 if job.kind in ("score", "evaluate") else 2


def _below(plan: SweepPlan, name: str) -> set[str]:
    """Return the jobs that wait for one, directly or not."""
    found: set[str] = set()
    frontier: Iterable[str] = [name]
    while frontier:
        below = {job.id for one in frontier for job in plan.waiting_for.get(one, ())}
        frontier = below - found
        found |= below
    return found
