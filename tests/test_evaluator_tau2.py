"""The `tau2` evaluator against a program that takes the documented options of 0.2 and 1.x and writes their files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_sft.engines.tau2 import simulations
from agent_sft.evals.results import Evaluation, Trial, read_results
from tests.conftest import ROOT, RunCli
from tests.provider import KEY, Fault, Provider, Request, provider

KEYS = {"AGENT_SFT_API_KEY": KEY, "AGENT_SFT_USER_API_KEY": KEY}
MODELS = ("the-agent", "the-customer")
VERSIONS = ("0.2.0", "1.0.1")


@pytest.fixture(scope="session")
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


def install(folder: Path, version: str, tasks: int = 4) -> Path:
    """A clone of tau2 as it looks after its installation."""
    domain = folder / "data" / "tau2" / "domains" / "telecom"
    domain.mkdir(parents=True)
    rows = [{"id": f"[mobile_data]task-{number}"} for number in range(tasks)]
    (domain / "tasks.json").write_text(json.dumps(rows))
    (domain / "split_tasks.json").write_text(
        json.dumps({"base": [row["id"] for row in rows], "test": [rows[-1]["id"]]})
    )
    (folder / "pyproject.toml").write_text(f'[project]\nname = "tau2"\nversion = "{version}"\n')
    program = folder / ".venv" / "bin" / "tau2"
    program.parent.mkdir(parents=True)
    stand_in = ROOT / "tests" / "inside" / "tau2_stand_in.py"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{stand_in}" {version} "$@"\n')
    program.chmod(0o755)
    return folder


def speaks(request: Request) -> str:
    """The customer names the task; the agent says it backwards, but for the last task."""
    text = str(request["messages"][0]["content"])
    if request["model"] == "the-customer":
        return text.removeprefix("You want ")
    return text if text.endswith("3") else text[::-1]


def options(server: Provider, tau2: Path, out: Path, *more: str) -> list[str]:
    return [
        *("eval", "run", "--evaluator", "tau2", "--task", "telecom", "--tau2-dir", str(tau2), "--out", str(out)),
        *("--model", f"{server.url}#the-agent", "--user-model", f"{server.url}#the-customer", "--trials", "2", *more),
    ]


def found(out: Path) -> tuple[Evaluation, dict[tuple[str, int], Trial]]:
    evaluation, trials = read_results(out)
    return evaluation, {trial.place: trial for trial in trials}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.slow
def test_a_domain_is_run_and_its_files_are_read(run_cli: RunCli, tmp_path: Path, version: str) -> None:
    tau2, out = install(tmp_path / "tau2", version), tmp_path / "out"
    with provider(speaks, MODELS) as server:
        done = run_cli(*options(server, tau2, out), env={**KEYS, "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert done.returncode == 0, done.stdout + done.stderr
    evaluation, trials = found(out)
    assert [trial.score for trial in trials.values()] == [1, 1, 1, 1, 1, 1, 0, 0]
    assert {trial.ended for trial in trials.values()} == {"user_stop", "max_messages"}
    assert (evaluation.floor, evaluation.versions["tau2"]) == (0, version)
    assert ("time_limit" in evaluation.limits, "token_limit" in evaluation.limits) == (version != "0.2.0", False)
    place, _, name = str(trials["[mobile_data]task-0", 0].transcript).partition("#")
    assert name in {entry["id"] for entry in json.loads((out / place).read_text())["simulations"]}
    seeds = {request["seed"] for request in server.requests if request["model"] == "the-agent"}
    assert len(seeds) == 2, "one for each trial"
    assert {request["temperature"] for request in server.requests} == {0.0}
    assert not (tau2 / "data" / "simulations").exists(), "the user's own results are left alone"
    assert KEY not in "".join(path.read_text() for path in out.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_domain_with_documents_has_its_tasks_in_files_of_their_own(run_cli: RunCli, tmp_path: Path) -> None:
    out, more = tmp_path / "out", ("--task", "banking_knowledge", "--param", "retrieval=bm25")
    tasks = install(tmp_path / "tau2", "1.0.1") / "data" / "tau2" / "domains" / "banking_knowledge" / "tasks"
    tasks.mkdir(parents=True)
    for number in (1, 2):
        (tasks / f"task_{number}.json").write_text(json.dumps({"id": f"task_{number}"}))
    with provider(speaks, MODELS) as server:
        old = install(tmp_path / "old", "0.2.0")
        refused = run_cli(*options(server, old, out, "--param", "retrieval=bm25"), env=KEYS)
        assert (refused.returncode, "tau2 0.2.0 has no --retrieval-config" in refused.stderr) == (2, True)
        done = run_cli(*options(server, tmp_path / "tau2", out, *more), env=KEYS)
    assert done.returncode == 0, done.stdout + done.stderr
    evaluation, trials = found(out)
    assert (evaluation.tasks, len(trials)) == (["task_1", "task_2"], 4)
    saved = json.loads((out / str(trials["task_1", 0].transcript).partition("#")[0]).read_text())
    assert saved["info"]["environment_info"] == {"retrieval_config": "bm25"}


def test_a_conversation_that_is_too_long_is_the_models_failure() -> None:
    facts = simulations.facts({"termination_reason": "context_window_exceeded", "reward_info": None, "messages": []})
    assert (facts["score"], facts["ended"]) == (0.0, "token_limit")
    assert simulations.facts({"termination_reason": "unexpected_error", "reward_info": {"reward": 0}})["score"] is None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.slow
def test_what_the_infrastructure_failed_runs_again_alone(run_cli: RunCli, tmp_path: Path, version: str) -> None:
    tau2, out = install(tmp_path / "tau2", version), tmp_path / "out"

    def fails(request: Request) -> str | Fault:
        text = str(request["messages"][0]["content"])
        return Fault(500) if request["model"] == "the-agent" and "task-1" in text else speaks(request)

    with provider(fails, MODELS) as server:
        done = run_cli(*options(server, tau2, out, "--concurrency", "1"), env=KEYS)
        assert done.returncode == 1, done.stdout + done.stderr
        _, before = found(out)
        scored = {place for place, trial in before.items() if trial.score is not None}
        assert ("[mobile_data]task-1", 0) not in scored
        assert scored
        asked, server.answer = len(server.requests), speaks
        again = run_cli(*options(server, tau2, out, "--concurrency", "1"), env=KEYS)
        assert again.returncode == 0, again.stderr
        assert len(server.requests) - asked == 2 * (8 - len(scored))
    _, trials = found(out)
    assert len(trials) == 8
    assert trials["[mobile_data]task-1", 1].score == 1


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_killed_again_and_again_no_trial_counts_twice(run_cli: RunCli, tmp_path: Path, version: str) -> None:
    tau2, out = install(tmp_path / "tau2", version, tasks=12), tmp_path / "out"

    def slowly(request: Request) -> str:
        time.sleep(0.1)
        return speaks(request)

    with provider(slowly, MODELS) as server:
        for number in range(4):
            before = len(server.requests)
            command = [sys.executable, "-P", "-m", "agent_sft", *options(server, tau2, out, "--concurrency", "2")]
            with (tmp_path / "log").open("ab") as log:
                process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **KEYS}, stdout=log, stderr=log)
                while len(server.requests) < before + 9 and process.poll() is None:
                    time.sleep(0.01)
                process.send_signal(signal.SIGKILL if number % 2 else signal.SIGINT)
                process.wait()
        done = run_cli(*options(server, tau2, out), env=KEYS)
    assert done.returncode == 0, done.stderr
    lines = (out / "results.jsonl").read_text().splitlines()
    _, trials = found(out)
    assert len(lines) == len(trials) == 24
    assert sum(trial.succeeded for trial in trials.values()) == 22


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--task", "telcom"), "did you mean 'telecom'?"),
        (("--param", "split=tset"), "did you mean 'test'?"),
        (("--tau2-dir", "."), "docs/tau2.md says how to install it"),
        (("--user-model", "scripted"), "a model plays tau2's customer"),
        (("--user-model", "openai/gpt-4.1"), "set OPENAI_API_KEY, or write it into .env"),
        (("--task-id", "task-9"), "there is no task 'task-9'"),
    ],
)
def test_a_wrong_request_is_said_before_anything_starts(
    run_cli: RunCli, tmp_path: Path, more: tuple[str, str], said: str
) -> None:
    tau2 = install(tmp_path / "tau2", "1.0.1")
    with provider(speaks, MODELS) as server:
        done = run_cli(*options(server, tau2, tmp_path / "out", *more), env={**KEYS, "OPENAI_API_KEY": ""})
    assert (done.returncode, server.requests) == (2, [])
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_key_in_the_env_file_is_found(run_cli: RunCli, tmp_path: Path) -> None:
    tau2 = install(tmp_path / "tau2", "1.0.1")
    (tmp_path / ".env").write_text(f"AGENT_SFT_API_KEY={KEY}\nexport AGENT_SFT_USER_API_KEY='{KEY}'\n")
    with provider(speaks, MODELS) as server:
        done = run_cli(*options(server, tau2, tmp_path / "out", "--limit", "1"), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
