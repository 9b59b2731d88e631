"""The processes that an engine's jobs in a sweep are forked from: when they are there, and for which jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent_sft.engines.forks.sharing import FORKS, Shared
from agent_sft.engines.inspect.tasks import SHARED as INSPECT
from agent_sft.engines.llamafactory.launch import SHARED as LLAMAFACTORY
from agent_sft.engines.llamafactory.launch import SHARED_DEEPSPEED as DEEPSPEED
from agent_sft.engines.vllm.launch import SHARED as VLLM
from agent_sft.sweep.executor import Handle
from agent_sft.sweep.forking import Forking, jobs_of
from agent_sft.sweep.graph import SweepPlan
from agent_sft.sweep.slots import Capacity, Share
from tests.sweep_plans import TASK, make_files, plan_of

CORES = Share((), 3, on_gpus=False)


@dataclass
class Submitted:
    """An executor that starts nothing, and tells what it was asked to."""

    commands: list[Sequence[str]] = field(default_factory=list)
    environments: list[Mapping[str, str]] = field(default_factory=list)
    ended: int = 0
    status: int | None = None
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
        return self.status

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
    monkeypatch.delenv(FORKS, raising=False)
    make_files(tmp_path, "a.json", "b.json")
    return plan_of(tmp_path, data=["a.json", "b.json"], sft={"model": "tiny", "steps": 1})


ON_GPU = Share((0,), 0, on_gpus=True)


def test_it_is_there_from_the_first_of_several_trainings_to_the_last(plan: SweepPlan, train_python: Path) -> None:
    executor, standing = Submitted(), States(plan)
    forking = Forking(executor, standing)
    first, second = (job for job in plan.jobs if job.kind == "train")
    assert forking.variables([first], ON_GPU) == {}, "what has seen a GPU cannot be shared"
    assert not executor.commands
    found = forking.variables([first], CORES)
    assert str(LLAMAFACTORY.socket(Path(found[FORKS]))) in executor.commands[0]
    assert executor.environments[0]["OMP_NUM_THREADS"] == "3"
    standing.states[first.id] = "done"
    forking.end_if_over()
    assert forking.variables([second], CORES) == found
    assert (len(executor.commands), executor.ended) == (1, 0)
    standing.states[second.id] = "failed"
    forking.end_if_over()
    assert executor.ended == 1


def test_one_that_was_killed_is_started_anew_once(plan: SweepPlan, train_python: Path) -> None:
    executor = Submitted()
    forking = Forking(executor, States(plan))
    first, second = (job for job in plan.jobs if job.kind == "train")
    found = forking.variables([first], CORES)
    executor.status = 137
    assert forking.variables([second], CORES) == found
    assert (len(executor.commands), executor.ended) == (2, 1)
    assert forking.variables([first], CORES) == found, "without it programs start by themselves"
    assert len(executor.commands) == 2


def test_a_scorer_has_one_for_its_server_and_one_for_inspect(
    plan: SweepPlan, tmp_path: Path, serve_python: Path
) -> None:
    evaluators = [{"evaluator": "inspect", "task": "task.py"}, TASK]
    (tmp_path / "task.py").touch()
    both = plan_of(tmp_path, data=["a.json", "b.json"], sft={"model": "tiny", "steps": 1}, evaluators=evaluators)
    executor, standing = Submitted(), States(both)
    forking = Forking(executor, standing)
    scored = [job for job in both.jobs if job.server is not None]
    found = forking.variables(scored, CORES)
    assert all(one in command for one, command in zip(sockets(found, VLLM, INSPECT), executor.commands, strict=True))
    standing.states |= {job.id: "done" for job in scored}
    forking.end_if_over()
    assert executor.ended == 2
    standing.states.clear()
    on_gpu = Forking(executor, standing)
    assert sockets(on_gpu.variables(scored, ON_GPU), INSPECT)[0] in executor.commands[2]
    assert len(executor.commands) == 3, "Inspect looks at no GPU"
    on_gpu.end()
    assert executor.ended == 3


def test_those_that_are_given_are_used(plan: SweepPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORKS, "/somewhere")
    executor = Submitted()
    assert Forking(executor, States(plan)).variables(plan.jobs, CORES) == {}, "jobs have what this process has"
    assert not executor.commands


def sockets(variables: Mapping[str, str], *engines: Shared) -> list[str]:
    return [str(engine.socket(Path(variables[FORKS]))) for engine in engines]


def test_a_single_training_starts_by_itself(plan: SweepPlan) -> None:
    executor, standing = Submitted(), States(plan)
    first, second = (job for job in plan.jobs if job.kind == "train")
    standing.states[first.id] = "done"
    assert Forking(executor, standing).variables([second], CORES) == {}
    assert not executor.commands


def test_trainings_by_deepspeed_share_one_of_their_own(plan: SweepPlan, repo: Path, tmp_path: Path) -> None:
    assert jobs_of(plan)[LLAMAFACTORY] == {"train/a", "train/b"}
    losses = plan_of(
        tmp_path, data=["a.json"], sft={"model": "tiny"}, evaluators=[{"evaluator": "loss", "task": "b.json"}]
    )
    assert jobs_of(losses)[LLAMAFACTORY] == {"train/a", "evaluate/a/final/b"}
    assert not jobs_of(losses)[VLLM] | jobs_of(losses)[INSPECT]
    deepspeed = str(repo / "ds_configs" / "ds_zero2.json")
    variants = [{"name": "two", "sft": {"nproc_per_node": 2}}, {"name": "zero", "sft": {"deepspeed": deepspeed}}]
    mixed = plan_of(tmp_path, variants=[*variants, {"name": "one"}], sft={"model": "tiny", "input": ["a.json"]})
    assert jobs_of(mixed)[LLAMAFACTORY] == {"train/two", "train/one"}
    assert jobs_of(mixed)[DEEPSPEED] == {"train/zero"}
