"""The process that LLaMA-Factory's jobs in a sweep are forked from: when it is there, and for which jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent_sft.engines.llamafactory.launch import FORK_SERVER
from agent_sft.sweep.executor import Handle
from agent_sft.sweep.forking import Forking, in_one_process
from agent_sft.sweep.graph import SweepPlan
from agent_sft.sweep.slots import Capacity, Share
from tests.sweep_plans import make_files, plan_of

CORES = Share((), 3, on_gpus=False)


@dataclass
class Submitted:
    """An executor that starts nothing, and tells what it was asked to."""

    commands: list[Sequence[str]] = field(default_factory=list)
    environments: list[Mapping[str, str]] = field(default_factory=list)
    ended: int = 0
    here: bool = True

    def capacity(self) -> Capacity:
        return Capacity((), 2)

    def submit(
        self, job: str, command: Sequence[str], share: Share, environment: Mapping[str, str], log: Path
    ) -> Handle:
        self.commands.append(command)
        self.environments.append(environment)
        return self

    def poll(self) -> int | None:
        return None

    def where(self) -> list[str] | None:
        return None

    def lost(self) -> str | None:
        return None

    def terminate(self) -> None:
        raise AssertionError

    def kill(self) -> None:
        self.ended += 1


@dataclass
class States:
    """How the jobs of a plan stand."""

    plan: SweepPlan
    states: dict[str, str] = field(default_factory=dict)

    def state(self, job: str) -> str:
        return self.states.get(job, "waiting")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepPlan:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(FORK_SERVER, raising=False)
    make_files(tmp_path, "a.json", "b.json")
    return plan_of(tmp_path, data=["a.json", "b.json"], sft={"model": "tiny", "steps": 1})


def test_it_is_there_from_the_first_of_several_trainings_to_the_last(plan: SweepPlan, train_python: Path) -> None:
    executor, standing = Submitted(), States(plan)
    forking = Forking(executor, standing)
    first, second = (job for job in plan.jobs if job.kind == "train")
    other = next(job for job in plan.jobs if job.kind != "train")
    assert forking.variables(other, CORES) == {}
    assert forking.variables(first, Share((0,), 0, on_gpus=True)) == {}, "what has seen a GPU cannot be shared"
    assert not executor.commands
    found = forking.variables(first, CORES)
    assert found[FORK_SERVER] in executor.commands[0]
    assert executor.environments[0]["OMP_NUM_THREADS"] == "3"
    standing.states[first.id] = "done"
    forking.end_if_over()
    assert forking.variables(second, CORES) == found
    assert (len(executor.commands), executor.ended) == (1, 0)
    standing.states[second.id] = "failed"
    forking.end_if_over()
    assert executor.ended == 1


def test_a_single_training_starts_by_itself(plan: SweepPlan) -> None:
    executor, standing = Submitted(), States(plan)
    first, second = (job for job in plan.jobs if job.kind == "train")
    standing.states[first.id] = "done"
    assert Forking(executor, standing).variables(second, CORES) == {}
    assert not executor.commands


def test_several_processes_and_deepspeed_are_started(plan: SweepPlan, repo: Path, tmp_path: Path) -> None:
    assert in_one_process(plan) == {"train/a", "train/b"}
    losses = plan_of(
        tmp_path, data=["a.json"], sft={"model": "tiny"}, evaluators=[{"evaluator": "loss", "task": "b.json"}]
    )
    assert in_one_process(losses) == {"train/a", "evaluate/a/final/b"}
    deepspeed = str(repo / "ds_configs" / "ds_zero2.json")
    variants = [{"name": "two", "sft": {"nproc_per_node": 2}}, {"name": "zero", "sft": {"deepspeed": deepspeed}}]
    mixed = plan_of(tmp_path, variants=[*variants, {"name": "one"}], sft={"model": "tiny", "input": ["a.json"]})
    assert in_one_process(mixed) == {"train/one"}
