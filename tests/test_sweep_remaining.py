"""How long a sweep still takes: by what like jobs took, played through on the same shares of the machine."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from agent_sft.sweep.graph import Job, Slots
from agent_sft.sweep.journal import Journal
from agent_sft.sweep.remaining import opening, played, remaining_seconds
from agent_sft.sweep.slots import Capacity, Pool, Share
from agent_sft.sweep.standing import Standing
from tests.sweep_jobs import Sums, pairs


def standing(sums: Sums) -> Standing:
    sums.out.mkdir(exist_ok=True)
    plan = sums.plan()
    found = Standing(plan, sums.outside(), Journal(plan, [], print))
    found.settle()
    return found


def expected(job: Job) -> float:
    return {"prepare": 5.0, "train": 60.0, "evaluate": 10.0}[job.kind]


@pytest.mark.parametrize(("cores", "seconds"), [(1, 5 + 4 * 60 + 4 * 10), (2, 5 + 60 + 60 + 10 + 10), (9, 5 + 60 + 10)])
def test_jobs_are_played_through_on_the_same_shares(tmp_path: Path, cores: int, seconds: float) -> None:
    found = remaining_seconds(standing(pairs(tmp_path, 0.1)), expected, Capacity((), cores))
    assert found == pytest.approx(seconds)


def test_nothing_is_guessed(tmp_path: Path) -> None:
    found = standing(pairs(tmp_path, 0.1))
    assert remaining_seconds(found, lambda _job: None, Capacity((), 2)) is None
    shown = opening(found, lambda _job: None, Capacity((), 2))
    assert shown.to_do == {"prepare": 1, "train": 4, "evaluate": 4}
    assert shown.seconds is None


@pytest.mark.slow
def test_what_like_jobs_took_counts_more_than_what_was_expected(tmp_path: Path) -> None:
    sums = pairs(tmp_path, 0.2)
    sums.run()
    for name in ("train/c", "evaluate/c/final/sums", "train/d", "evaluate/d/final/sums"):
        sums.made(name).unlink()
    found = remaining_seconds(standing(sums), expected, Capacity((), 1))
    assert found is not None
    assert 0.8 < found < 60


@pytest.mark.slow
def test_nothing_is_left_of_what_is_done(tmp_path: Path) -> None:
    sums = pairs(tmp_path, 0.05)
    sums.run()
    assert remaining_seconds(standing(sums), expected, Capacity((), 2)) == 0


def by_hand(jobs: list[Job], seconds: dict[str, float], capacity: Capacity) -> float:
    """Play jobs through, looking at every job after every end."""
    pool, clock = Pool(capacity), 0.0
    waiting, running = list(jobs), list[tuple[float, int, Job, Share]]()
    while waiting or running:
        for job in list(waiting):
            unfinished = {one.id for one in waiting} | {one.id for _, _, one, _ in running}
            served = job.server is not None and any(one.server == job.server for _, _, one, _ in running)
            if not served and not unfinished & set(job.after) and (share := pool.take(job.slots)) is not None:
                waiting.remove(job)
                running.append((clock + seconds[job.id], jobs.index(job), job, share))
        if not running:
            break
        running.sort(key=lambda entry: entry[:2])
        clock, _, _, share = running.pop(0)
        pool.give_back(share)
    return clock


@pytest.mark.parametrize("seed", range(20))
def test_many_jobs_are_played_through_as_if_each_was_looked_at_each_time(seed: int) -> None:
    chance = random.Random(seed)
    jobs: list[Job] = []
    for number in range(40):
        after = tuple(one.id for one in chance.sample(jobs, min(len(jobs), chance.randrange(3))))
        server = chance.choice([None, None, "a", "b"])
        jobs.append(
            Job(f"train/{number}", "train", after, Slots(gpus=chance.choice([0, 1, 1, 2, 9])), (), server=server)
        )
    seconds = {job.id: float(chance.randrange(1, 1000)) for job in jobs}
    capacity = Capacity(tuple(range(4)), 1)
    assert played(jobs, seconds, capacity, None) == by_hand(jobs, seconds, capacity)
