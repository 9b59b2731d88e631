"""How long a sweep still takes, by what its jobs took so far and by what was expected of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from agent_sft.sweep.graph import Job
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
    seconds = {job.id: _seconds(standing, job, expected) for job in left}
    if any(value is None for value in seconds.values()):
        return None
    return played(left, {name: value or 0.0 for name, value in seconds.items()}, capacity, plan.config.resources.jobs)


def _seconds(standing: Standing, job: Job, expected: Expected) -> float | None:
    """Return what is left of a job: like ones that ended well tell, else what was expected."""
    like = [
        standing.seconds(other.id)
        for other in standing.plan.jobs
        if (other.kind, other.evaluator, other.variant is None) == (job.kind, job.evaluator, job.variant is None)
        and standing.state(other.id) == "done"
    ]
    known = [value for value in like if value > 0]
    total = sum(known) / len(known) if known else expected(job)
    if total is None:
        return None
    begun = standing.begun(job.id)
    return total if begun is None else max(total - (time.monotonic() - begun), 0.0)


def played(jobs: list[Job], seconds: dict[str, float], capacity: Capacity, at_once: int | None) -> float:
    """Return when the last of the jobs ends, each started in their order as soon as it can."""
    pool, clock = Pool(capacity, at_once), 0.0
    waiting, running = list(jobs), list[tuple[float, Job, Share]]()
    while waiting or running:
        for job in list(waiting):
            unfinished = {one.id for one in waiting} | {one.id for _, one, _ in running}
            served = job.server is not None and any(one.server == job.server for _, one, _ in running)
            if not served and not unfinished & set(job.after) and (share := pool.take(job.slots)) is not None:
                waiting.remove(job)
                running.append((clock + seconds[job.id], job, share))
        if not running:
            break  # what is left cannot start on this machine
        running.sort(key=lambda entry: entry[0])
        clock, _, share = running.pop(0)
        pool.give_back(share)
    return clock
