"""How the jobs of a sweep stand: done, ready with a reason, waiting for others, failed, or skipped."""

from __future__ import annotations

import time
from dataclasses import dataclass

from agent_sft.errors import UserError, WorkFailed
from agent_sft.sweep.graph import Job, SweepPlan
from agent_sft.sweep.journal import Journal
from agent_sft.sweep.outside import Outside


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
        for job in plan.jobs:
            journal[job.id].state = "waiting"

    @property
    def settled(self) -> bool:
        """Whether every job is done, failed or skipped."""
        return all(self._journal[job.id].state in ("done", "failed", "skipped") for job in self.plan.jobs)

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
        moved = True
        while moved:
            moved = False
            for job in self.plan.jobs:
                if job.id in self._unknown and self._judge(job):
                    moved = True
                    break  # the plan may be another one now

    def done(self, job: Job) -> None:
        """Take note that a job is done: what its training left decides which checkpoints are scored."""
        self._journal.settle(job.id, "done", None)
        self.ready.pop(job.id, None)
        if job.kind == "train" and job.variant is not None:
            try:
                self.plan = self._outside.with_checkpoints(self.plan, job.variant)
            except UserError as error:
                for other in self.plan.jobs:
                    if other.variant == job.variant and other.kind in ("score", "evaluate"):
                        self.failed(other, error.what)
                        self._unknown.discard(other.id)
                return
            known = {one.id for one in self.plan.jobs}
            self._unknown = {
                name for name in known if self._journal[name].state == "waiting" and name not in self.ready
            }

    def failed(self, job: Job, reason: str) -> None:
        """Take note that a job failed for good."""
        self._journal.settle(job.id, "failed", reason)
        self.ready.pop(job.id, None)

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
        found = []
        for variant in self.plan.variants:
            jobs = [job for job in self.plan.jobs if job.variant == variant.name]
            if variant.name not in self._told and all(self.state(job.id) == "done" for job in jobs):
                self._told.add(variant.name)
                found.append(variant.name)
        return found

    def startable(self) -> list[Job]:
        """Return the jobs that may start now, the most urgent first.

        First what all variants need, then evaluations, whose results are what is waited for, then what the most other
        jobs wait for, in the order of the plan.
        """
        now = time.monotonic()
        jobs = [job for job in self.plan.jobs if job.id in self.ready and self.ready[job.id].due <= now]
        if len(jobs) > 1:
            waiting = {job.id: len(_below(self.plan, job.id)) for job in jobs}
            jobs.sort(key=lambda job: (_urgency(job), -waiting[job.id]))
        return jobs

    def _judge(self, job: Job) -> bool:
        """Find out how a job stands whose state is not known; return whether it is now."""
        needs = {name: self.state(name) for name in job.after}
        lost = [name for name, state in needs.items() if state in ("failed", "skipped")]
        if lost:
            self._unknown.discard(job.id)
            self._journal.settle(job.id, "skipped", f"{lost[0]} {needs[lost[0]]}")
            return True
        if any(state != "done" for state in needs.values()):
            return False
        self._unknown.discard(job.id)
        reason = self.why_run(job)
        if reason is None:
            self.done(job)
        else:
            self.again(job, reason)
        return True


def _urgency(job: Job) -> int:
    if job.variant is None:
        return 0
    return 1 if job.kind in ("score", "evaluate") else 2


def _below(plan: SweepPlan, name: str) -> set[str]:
    """Return the jobs that wait for one, directly or not."""
    found: set[str] = set()
    frontier = {name}
    while frontier:
        frontier = {job.id for job in plan.jobs if frontier & set(job.after)} - found
        found |= frontier
    return found
