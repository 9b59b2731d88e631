"""Carrying out a plan: what can start does, what ends is judged by its outcome, what failed is tried again or told."""

from __future__ import annotations

import time
from collections.abc import Sequence

from agent_sft.report.sweep.record import SweepRecord
from agent_sft.runs.lock import run_lock
from agent_sft.runs.processes import Interrupted, StopSignal
from agent_sft.sweep.control import BUSY, LOCK
from agent_sft.sweep.executor import Executor, LocalExecutor
from agent_sft.sweep.graph import SweepPlan
from agent_sft.sweep.journal import Journal
from agent_sft.sweep.knowledge import usual
from agent_sft.sweep.outside import Outside, SweepReporter
from agent_sft.sweep.ray_executor import RayExecutor
from agent_sft.sweep.remaining import opening, remaining_seconds
from agent_sft.sweep.reports import Reports
from agent_sft.sweep.resources import resources_of
from agent_sft.sweep.retrying import base_seconds
from agent_sft.sweep.sparing import Sparing
from agent_sft.sweep.standing import Standing
from agent_sft.sweep.working import Working

POLL_SECONDS = 0.1
BUSY_POLL_SECONDS = 0.01
"""Time between two looks at what runs: the latter after something has happened, and longer ones from there."""
SHOW_SECONDS = 0.5
SAVE_SECONDS = 15.0
"""Time between two records while nothing changes, so that it is known how long a sweep lived that was killed."""


def run_sweep(
    plan: SweepPlan,
    *,
    reporter: SweepReporter,
    stop: StopSignal,
    command: Sequence[str],
    outside: Outside | None = None,
    retry_seconds: float | None = None,
) -> SweepRecord:
    """Do all of a plan that is not done yet.

    Args:
        plan: what there is to do.
        reporter: is told how it goes.
        stop: signals that end it well.
        command: what the sweep was started with.
        outside: what is known of jobs elsewhere; what this machine's files tell when None.
        retry_seconds: pause before the first retry of a job; as the environment says when None.

    Returns:
        How everything stands at the end; jobs that failed, and those that need them, among it.

    Raises:
        UserError: another process runs this sweep, or a job wants more than there is.
        Interrupted: the user stopped it; the same command goes on.
    """
    resources = resources_of(plan.config.resources, plan.config.name)
    outside = outside or usual(plan, resources)
    pause = base_seconds() if retry_seconds is None else retry_seconds
    with run_lock(plan.out / LOCK, BUSY) as lock:

        def run(executor: Executor) -> SweepRecord:
            return Scheduler(plan, reporter, stop, command, outside, executor, pause).run()

        if plan.config.resources.executor == "ray":
            address = plan.config.resources.ray_address or "auto"
            with RayExecutor(address, plan.out, lock, reporter.say) as cluster:
                return run(cluster)
        return run(LocalExecutor(resources.capacity, lock))


class Scheduler:
    """One run of a sweep."""

    def __init__(
        self,
        plan: SweepPlan,
        reporter: SweepReporter,
        stop: StopSignal,
        command: Sequence[str],
        outside: Outside,
        executor: Executor,
        retry_seconds: float,
    ) -> None:
        """Get ready; nothing is started yet. The arguments are those of `run_sweep`."""
        self._reporter = reporter
        self._stop = stop
        self._outside = outside
        self._journal = Journal(plan, command, reporter.say)
        self._standing = Standing(plan, outside, self._journal)
        self._reports = Reports(plan.out, outside.write_report, reporter.say)
        self._working = Working(self._standing, executor, self._journal, outside, reporter.say, retry_seconds)
        self._saving, self._showing = Sparing(), Sparing()
        self._report_due = False

    def run(self) -> SweepRecord:
        """Do everything; see `run_sweep`."""
        self._journal.keep_config(self._standing.plan)
        self._journal.event("sweep started", pool=vars(self._working.pool.capacity))
        try:
            self._standing.settle()
            capacity = self._working.pool.capacity
            self._reporter.opens(opening(self._standing, self._outside.expected_seconds, capacity))
            pause = POLL_SECONDS
            while not self._over():
                if self._stop.count:
                    self._give_up()
                events = self._journal.events
                self._turn()
                pause = BUSY_POLL_SECONDS if self._journal.events > events else min(pause * 1.5, POLL_SECONDS)
                time.sleep(pause)
        finally:
            self._working.kill()
            self._reporter.ended()
        return self._finished()

    def _over(self) -> bool:
        return self._standing.settled and not self._working.busy

    def _turn(self) -> None:
        """Take note of what ended, start what can start, tell about it."""
        self._working.collect()
        self._standing.settle()
        for variant in self._standing.newly_finished():
            self._working.prune(variant)
            self._report_due = self._journal.ran
        self._working.start()
        changed = self._journal.changed
        report = self._report_due and self._reports.cheap
        if report or self._saving.since > SAVE_SECONDS or (changed and self._saving.cheap):
            self._save()
        if report:
            self._report_due = False
            self._reports.order()
        if self._showing.since > SHOW_SECONDS or (changed and self._showing.cheap):
            with self._showing:
                left = remaining_seconds(self._standing, self._outside.expected_seconds, self._working.pool.capacity)
                self._reporter.show(self._journal.record(self._standing.plan), left)

    def _save(self) -> None:
        with self._saving:
            self._journal.save(self._standing.plan)

    def _give_up(self) -> None:
        """Let everything that runs save and end; then end ourselves.

        Raises:
            Interrupted: always.
        """
        self._reporter.say("stopping: what runs saves and ends (once more to end at once)")
        self._working.stop(self._stop)
        self._journal.event("sweep stopped", signal=self._stop.number)
        self._save()
        self._reports.wait()
        raise Interrupted(self._stop.exit_code)

    def _finished(self) -> SweepRecord:
        plan = self._standing.plan
        changed = self._journal.save(plan, finished=True)
        if changed or not (plan.out / "report" / "index.html").is_file():
            self._reports.order(complete=True)
        self._reports.wait()
        self._journal.event("sweep ended")
        return self._journal.record(plan, finished=True)
