"""A plan's budget: what was spent and what is to come stop a sweep before it costs more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agent_sft.planning.sweeps import Machine
from agent_sft.planning.watching import BudgetWatch, Watched
from agent_sft.report.sweep.record import JobRecord, SweepRecord
from agent_sft.runs.processes import StopSignal
from tests.sweep_jobs import Said

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
GPUS = Machine(gpus=2, cores=8, train=1, at_once=2)
CORES = Machine(gpus=0, cores=4, train=2, at_once=2)


def job(name: str, state: str, hours: float = 0.0, *, gpus: int = 1, begun: float | None = None) -> JobRecord:
    started = (NOW - timedelta(hours=begun)).isoformat(timespec="seconds") if begun is not None else None
    devices = [f"gpu {number}" for number in range(gpus)] or ["cores 2"]
    seconds = hours * 3600
    fields = {"seconds": seconds, "gpu_seconds": seconds * gpus, "devices": devices, "started": started}
    return JobRecord(id=name, kind=name.partition("/")[0], state=state, **fields)  # type: ignore[arg-type]


def record(*jobs: JobRecord) -> SweepRecord:
    return SweepRecord(
        name="s", question=None, varied=None, baseline=None, evaluators=[], gpu_price=None, started="", updated="",
        finished=None, command=[], folder="", settings={}, machine={}, versions={}, jobs=list(jobs), variants=[],
    )  # fmt: skip


def too_dear(budget: float | None, *jobs: JobRecord, before: float = 0.0, machine: Machine = GPUS) -> str | None:
    return BudgetWatch(budget, before, machine, clock=lambda: NOW).too_dear(record(*jobs))


def test_what_runs_counts_with_the_time_it_has_run() -> None:
    running = job("train/a", "running", begun=2.0)
    assert too_dear(2.5, running) is None
    assert too_dear(1.5, running) == "2 hours are spent; the budget is 1.5: a larger one goes on"
    assert too_dear(2.5, running, before=1.0) is not None
    assert too_dear(None, running) is None


def test_what_is_to_come_counts_by_what_the_same_took() -> None:
    jobs = [job("train/a", "done", 1.0), job("train/b", "running", begun=0.5), job("train/c", "waiting")]
    assert too_dear(3.1, *jobs) is None
    said = too_dear(2.9, *jobs)
    assert said == "1.5 hours are spent, and about 1.5 are to come; the budget is 2.9: a larger one goes on"


def test_nothing_is_guessed_of_what_never_ran() -> None:
    assert too_dear(1.1, job("train/a", "done", 1.0), job("evaluate/a/final/loss", "waiting")) is None


def test_without_a_gpu_a_share_of_the_machine_counts() -> None:
    half = job("train/a", "done", 2.0, gpus=0)
    assert too_dear(1.1, half, machine=CORES) is None
    assert too_dear(0.9, half, machine=CORES) is not None


def test_the_sweep_is_asked_to_stop_once() -> None:
    stop = StopSignal()
    watched = Watched(said := Said(), BudgetWatch(1.0, 0.0, GPUS, clock=lambda: NOW), stop)
    for _ in range(2):
        watched.show(record(job("train/a", "running", begun=2.0)), None)
    assert stop.count == 1
    assert stop.exit_code == 143
    assert watched.too_dear is not None
    assert said.text.count("budget:") == 1


@pytest.mark.parametrize("state", ["done", "failed"])
def test_within_the_budget_nothing_happens(state: str) -> None:
    stop = StopSignal()
    Watched(Said(), BudgetWatch(1.0, 0.0, GPUS, clock=lambda: NOW), stop).show(record(job("train/a", state, 0.9)), None)
    assert not stop.count
