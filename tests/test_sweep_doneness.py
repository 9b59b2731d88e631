"""What of a sweep is done, and why the rest runs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_sft.config.evaluation import EvaluationConfig
from agent_sft.config.sweep import PrepareConfig
from agent_sft.engines.nothing import serve_nothing
from agent_sft.runs.processes import StopSignal
from agent_sft.stages.evaluating import evaluate_on
from agent_sft.stages.reporting import Quiet
from agent_sft.stages.serving_plan import local_model
from agent_sft.sweep.commands import runnable
from agent_sft.sweep.doneness import make_room, reasons, why_evaluate, why_run
from agent_sft.sweep.graph import SweepPlan
from agent_sft.sweep.preparing import stamp_prepare, why_prepare
from tests.evaluations import written
from tests.support import short_data, tree
from tests.sweep_plans import make_files, make_model, plan_of

LOSS = {"evaluator": "loss", "task": "held_out.json"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that commands are started in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(path: Path) -> None:
    """Let a file look as if it had been written just now."""
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


def test_a_command_is_done_when_what_it_reads_and_made_is_what_it_was(here: Path) -> None:
    make_files(here, "raw/a.json", "made.json")
    asked = PrepareConfig(command=("make",), makes=(Path("made.json"),), reads=(Path("raw"), Path("config")))

    def why(config: PrepareConfig = asked) -> str | None:
        return why_prepare(here, 0, config)

    assert why() == "not done yet"
    assert stamp_prepare(here, 0, asked) == []
    assert why() is None
    touch(here / "raw/a.json")
    assert why() is None
    assert why(asked.model_copy(update={"command": ("make", "it")})) == "its command is another"
    assert why(asked.model_copy(update={"makes": (Path("made.json"), Path("b"))})) == "it is to make other files"
    make_files(here, "raw/b.json")
    assert why() == "what it reads changed"
    stamp_prepare(here, 0, asked)
    (here / "made.json").write_text("[]")
    assert why() == "made.json is not what it made"
    (here / "made.json").unlink()
    assert why() == "made.json is gone"


def test_a_command_follows_from_one_before_it_only_where_it_reads_what_that_makes(here: Path) -> None:
    make_files(here, "raw.json", "a_0.json", "a_5.json", "b.json")
    prepare = [
        {"command": ["make", "a_0"], "makes": ["a_0.json"], "reads": ["raw.json"]},
        {"command": ["make", "a_5"], "makes": ["a_5.json"]},
        {"command": ["make", "b"], "makes": ["b.json"], "reads": ["a_0.json"]},
    ]
    plan = plan_of(here, prepare=prepare, data=["a_{0,5}.json", "b.json"])
    for number, command in enumerate(plan.config.prepare):
        stamp_prepare(plan.out, number, command)
    make_files(here, "raw.json")
    assert {job for job, why in reasons(plan).items() if why and job.startswith("prepare/")} == set()
    (here / "raw.json").write_text("[]")
    found = {job: why for job, why in reasons(plan).items() if job.startswith("prepare/")}
    assert found == {"prepare/0": "what it reads changed", "prepare/1": None, "prepare/2": "after prepare/0"}


def test_a_command_that_did_not_make_all_is_not_done(here: Path) -> None:
    make_files(here, "a.json")
    asked = PrepareConfig(command=("make",), makes=(Path("a.json"), Path("b.json")))
    assert stamp_prepare(here, 0, asked) == ["b.json"]
    assert why_prepare(here, 0, asked) == "not done yet"


def test_what_follows_from_a_job_that_runs_runs_too(here: Path) -> None:
    make_files(here, "a_0.json", "a_5.json")
    prepare = [{"command": ["make"], "makes": ["b.json"]}]
    base = {"input": "b.json", "model": "tiny"}
    plan = plan_of(here, prepare=prepare, base=base, data=["a_{0,5}.json"])
    assert reasons(plan) == {
        "prepare/0": "not done yet",
        "train/base": "after prepare/0",
        "train/a_0": "after train/base",
        "score/a_0/final/tasks": "after train/a_0",
        "train/a_5": "after train/base",
        "score/a_5/final/tasks": "after train/a_5",
    }


def test_an_evaluation_whose_model_is_gone_is_judged_by_its_options(here: Path) -> None:
    """A checkpoint that was pruned, a name on the hub: what was scored stays."""
    asked = EvaluationConfig(model="gone/checkpoint-5", evaluator="tasks", task="t", out=here / "e")
    assert why_evaluate(asked) == "not done yet"
    written(asked.out, {"1": [1.0], "2": [None]}, model=asked.model)
    (asked.out / "eval.yaml").write_text(yaml.safe_dump(asked.model_dump(mode="json")))
    assert why_evaluate(asked) == "1 trial without a score"
    other = asked.model_copy(update={"trials": 4, "concurrency": 3})
    assert why_evaluate(other) == "other options: trials"
    assert make_room(asked) is None
    assert make_room(other) == "other options: trials"
    assert why_evaluate(other) == "not done yet"
    assert (here / "e/set-aside/1/results.jsonl").is_file()


@pytest.fixture
def answering(here: Path) -> Callable[..., SweepPlan]:
    """Plans of finished models with an evaluator whose tasks are in a file, as `write` says."""
    make_model(here / "saves/a")
    (here / "saves/a/model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    task = {"task_id": "1", "instruction": "Say yes.", "verifier": {"fn_name": "contains", "expected": "yes"}}
    (here / "tasks").mkdir()
    (here / "tasks/tasks.jsonl").write_text(f"{json.dumps(task)}\n")

    def plan(**options: Any) -> SweepPlan:
        return plan_of(
            here, models=["saves/a"], evaluators=[{"evaluator": "tasks", "task": "tasks/tasks.jsonl", **options}]
        )

    return plan


def test_another_limit_or_task_is_another_evaluation_and_is_set_aside(
    here: Path, answering: Callable[..., SweepPlan]
) -> None:
    plan = answering()
    (job,) = plan.jobs
    assert job.evaluation is not None
    assert reasons(plan) == {job.id: "not done yet"}
    with serve_nothing() as silent:
        model = replace(silent, path=Path("saves/a"), digest=local_model("saves/a").digest())
        evaluate_on(None, model, job.evaluation, reporter=Quiet(), stop=StopSignal())
    assert reasons(plan) == {job.id: None}
    touch(here / "saves/a/model.safetensors")
    assert reasons(answering(concurrency=3)) == {job.id: None}
    other = answering(limits={"time_limit": 7})
    assert reasons(other) == {job.id: "limits.time_limit was 1800, is 7"}
    assert other.jobs[0].evaluation is not None
    assert make_room(other.jobs[0].evaluation) == "limits.time_limit was 1800, is 7"
    assert reasons(other) == {job.id: "not done yet"}
    assert (job.evaluation.out / "set-aside/1/evaluation.json").is_file()


def perform(plan: SweepPlan) -> dict[str, str | None]:
    """Do the jobs of a plan that are not done, one after the other; return why each ran."""
    why: dict[str, str | None] = {}
    for job in plan.jobs:
        why[job.id] = why_run(plan, job)
        if why[job.id] is not None:
            if job.evaluation is not None:
                make_room(job.evaluation)
            done = subprocess.run(runnable(job.command), capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
    return why


@pytest.mark.slow
def test_only_what_changed_is_done_again(here: Path, train_python: Path) -> None:
    """Trained and evaluated by LLaMA-Factory; then data is touched, a row changes, an evaluation's option changes."""
    short_data(here)
    rows = json.loads((here / "short.json").read_text())
    for name, some in (("a_0", rows[:8]), ("a_5", rows[:10]), ("held_out", rows[10:14])):
        (here / f"{name}.json").write_text(json.dumps(some))
    sft = {"model": "tiny", "steps": 2, "cutoff_len": 512}

    def plan(**evaluator: Any) -> SweepPlan:
        return plan_of(here, data=["a_{0,5}.json"], sft=sft, evaluators=[{**LOSS, **evaluator}])

    assert set(perform(plan()).values()) == {"not done yet"}
    before = tree(here / "sweeps")
    assert set(reasons(plan()).values()) == {None}
    for path in here.glob("*.json"):
        touch(path)
    assert set(reasons(plan()).values()) == {None}
    assert tree(here / "sweeps") == before

    changed = {job: why for job, why in reasons(plan(params={"cutoff_len": 100})).items() if why is not None}
    assert all(job.startswith("evaluate/") and "cutoff_len" in why for job, why in changed.items())
    assert len(changed) == 2

    rows[9]["conversations"][0]["value"] += " Really."
    (here / "a_5.json").write_text(json.dumps(rows[:10]))
    changed = {job: why for job, why in reasons(plan()).items() if why is not None}
    assert changed["train/a_5"].startswith("process: ")
    assert "a_5.json changed" in changed["train/a_5"]
    assert changed == {"train/a_5": changed["train/a_5"], "evaluate/a_5/final/held_out": "after train/a_5"}
