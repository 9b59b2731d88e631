"""How long a sweep still takes, by what its jobs took so far and by what was expected of them."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import fmean

from agent_sft.sweep.graph import Job, Slots
from agent_sft.sweep.outside import Opening
from agent_sft.sweep.slots import Capacity, Pool, Share
from agent_sft.sweep.standing import Standing

Expected = Callable[[Job], "float | None"]


def opening(standing: Standing, expected: Expected, capacity: Capacity) -> Opening:
    """Return what a sweep will do that is about to start."""
    kinds = [
        "evaluate" if job.kind == "score" else job.kind
        for job in standing.plan.jobs
        if standing.state(job.id) not in ("done", "failed", "skipped")
    ]
    return Opening(
        to_do=dict(Counter(kinds)),
        done=sum(standing.state(job.id) == "done" for job in standing.plan.jobs),
        capacity=capacity,
        seconds=remaining_seconds(standing, expected, capacity),
        elsewhere=standing.plan.config.takes,
    )


def remaining_seconds(standing: Standing, expected: Expected, capacity: Capacity) -> float | None:
    """Return the seconds until all is done, if jobs take what like ones took; None where nothing tells of one.

    The jobs are played through on the same shares of the machine, in the order of the plan.
    """
    plan = standing.plan
    left = [job for job in plan.jobs if standing.state(job.id) in ("waiting", "running")]
    took = _took(standing)
    seconds: dict[str, float] = {}
    for job in left:
        like = took.get(_sort(job))
        total = fmean(like) if like else expected(job)
        if total is None:
            return None
        begun = standing.begun(job.id)
        seconds[job.id] = total if begun is None else max(total - (time.monotonic() - begun), 0.0)
    return played(left, seconds, capacity, plan.config.resources.jobs)


def _took(standing: Standing) -> dict[Hashable, list[float]]:
    """Return how long the jobs of each sort took that ended well."""
    found: dict[Hashable, list[float]] = {}
    for job in standing.plan.jobs:
        if standing.state(job.id) == "done" and (seconds := standing.seconds(job.id)) > 0:
            found.setdefault(_sort(job), []).append(seconds)
    return found


def _sort(job: Job) -> Hashable:
    """Return what jobs that take about the same time have in common."""
    return job.kind, job.evaluator, job.variant is None


def played(jobs: Sequence[Job], seconds: Mapping[str, float], capacity: Capacity, at_once: int | None) -> float:
    """Return when the last of the jobs ends, each started in their order as soon as it can."""
    queue, pool, clock = _Queue(jobs), Pool(capacity, at_once), 0.0
    running: list[tuple[float, int, Share]] = []
    while True:
        while (started := queue.take(pool)) is not None:
            place, share = started
            heapq.heappush(running, (clock + seconds[jobs[place].id], place, share))
        if not running:
            return clock  # nothing is left that could start on this machine
        clock, place, share = heapq.heappop(running)
        pool.give_back(share)
        queue.ended(place)


class _Queue:
    """Jobs that wait, by their places in an order; those that want as much of the machine side by side."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        known = {job.id for job in jobs}
        self._needs = [len(known & set(job.after)) for job in jobs]
        self._after: dict[str, list[int]] = {}
        self._ready: dict[Slots, list[int]] = {}
        self._busy: set[str | None] = set()
        self._parked: dict[str | None, dict[Slots, list[int]]] = {}
        """Jobs that wait for each server, found while it was busy; those that want as much side by side."""
        for place, job in enumerate(jobs):
            for name in known & set(job.after):
                self._after.setdefault(name, []).append(place)
            if not self._needs[place]:
                self._put(place)

    def take(self, pool: Pool) -> tuple[int, Share] | None:
        """Return the place of the first job for which there is room, with its share; None where there is none."""
        while fitting := [places for slots, places in self._ready.items() if places and pool.fits(slots)]:
            place = heapq.heappop(min(fitting))
            job = self._jobs[place]
            if job.server in self._busy:
                heapq.heappush(self._parked.setdefault(job.server, {}).setdefault(job.slots, []), place)
            elif (share := pool.take(job.slots)) is not None:
                if job.server is not None:
                    self._busy.add(job.server)
                return place, share
        return None

    def ended(self, place: int) -> None:
        """Let start what waited for a job."""
        job = self._jobs[place]
        self._busy.discard(job.server)
        for parked in self._parked.get(job.server, {}).values():
            if parked:
                self._put(heapq.heappop(parked))
        for other in self._after.get(job.id, ()):
            self._needs[other] -= 1
            if not self._needs[other]:
                self._put(other)

    def _put(self, place: int) -> None:
        heapq.heappush(self._ready.setdefault(self._jobs[place].slots, []), place)
