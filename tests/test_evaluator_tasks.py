"""The `tasks` evaluator against a provider whose behaviour the test decides."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_sft.evals.results import Evaluation, Trial, read_results
from tests.conftest import ROOT, RunCli
from tests.provider import KEY, Answer, Fault, Provider, Request, call, provider

KEYS = {"AGENT_SFT_API_KEY": KEY}


@pytest.fixture(scope="session")
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


def write_tasks(folder: Path, count: int) -> Path:
    """Sums: the provider knows those whose result is even."""
    folder.mkdir(exist_ok=True)
    rows = [
        {
            "task_id": f"sum-{number}",
            "instruction": f"What is {number} + {number // 3}?",
            "family": "even" if number % 2 == 0 else "odd",
            "verifier": {"kind": "in_process", "fn_name": "numeric", "expected": number + number // 3},
        }
        for number in range(count)
    ]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def adds(request: Request) -> str:
    first, second = (int(word) for word in request["messages"][-1]["content"].rstrip("?").split()[2::2])
    return f"It is {first + second + first % 2}."


def options(server: Provider, tasks: Path, out: Path, *more: str) -> list[str]:
    return [
        *("eval", "run", "--model", server.url, "--evaluator", "tasks", "--task", str(tasks), "--out", str(out)),
        *("--max-retries", "2", "--request-timeout", "2", *more),
    ]


def found(out: Path) -> tuple[Evaluation, dict[tuple[str, int], Trial]]:
    evaluation, trials = read_results(out)
    return evaluation, {trial.place: trial for trial in trials}


@pytest.mark.slow
def test_every_task_is_scored_by_its_verifier_with_the_floor_beside_it(run_cli: RunCli, tmp_path: Path) -> None:
    tasks = write_tasks(tmp_path / "sums", 10)
    with provider(adds) as server:
        done = run_cli(
            *options(server, tasks, tmp_path / "out", "--trials", "2"),
            env={**KEYS, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        )
    assert done.returncode == 0, done.stderr
    evaluation, trials = found(tmp_path / "out")
    assert len(trials) == 20
    assert {trial.task for trial in trials.values() if trial.succeeded} == {f"sum-{n}" for n in range(0, 10, 2)}
    assert evaluation.floor == 0
    assert "doing nothing 0.000" in done.stdout
    assert "succeeded     10 of 20" in done.stdout
    one = trials["sum-1", 0]
    assert (one.family, one.output_tokens, one.ended) == ("odd", 5, "done")
    assert "2" in str(one.detail["reason"])
    place, _, fragment = str(one.transcript).partition("#")
    lines = [json.loads(line) for line in (tmp_path / "out" / place).read_text().splitlines()]
    (kept,) = (line for line in lines if f"{line['task']}/{line['trial']}" == fragment)
    assert kept["messages"][-1]["content"] == "It is 2."
    seeds = [request["seed"] for request in server.requests]
    assert len(set(seeds)) == 20
    assert KEY not in "".join(path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_calls_of_tools_are_judged(run_cli: RunCli, tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    verifier = {
        "kind": "in_process",
        "fn_name": "tool_call",
        "expected": {"name": "look_up", "arguments": {"id": "C1"}},
    }
    names = ("C1", "C2", "x", "broken")
    rows = [{"task_id": name, "instruction": name, "tools": [tool], "verifier": verifier} for name in names]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def answer(request: Request) -> dict[str, Any] | str:
        asked = request["messages"][-1]["content"]
        if asked == "broken":
            return '<tool_call>\n{"name": "look_up", "arguments": {"id": "C1"\n</tool_call>'
        return call("look_up" if asked != "x" else "look_down", {"id": asked})

    with provider(answer) as server:
        done = run_cli(*options(server, tmp_path, tmp_path / "out"), env=KEYS)
    assert done.returncode == 0, done.stderr
    _, trials = found(tmp_path / "out")
    assert {place[0]: (trial.score, trial.tool_errors) for place, trial in trials.items()} == {
        "C1": (1.0, 0),
        "C2": (0.0, 0),
        "x": (0.0, 1),
        "broken": (0.0, 1),
    }


def test_many_are_asked_at_once(run_cli: RunCli, tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def waits(request: Request) -> str:
        together.wait(60)
        return adds(request)

    with provider(waits) as server:
        done = run_cli(
            *options(server, write_tasks(tmp_path / "t", 24), tmp_path / "o", "--concurrency", "8"), env=KEYS
        )
        assert done.returncode == 0
    assert server.most_at_once == 8


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        pytest.param(Fault(500), 1, "HTTP 500: ", id="500"),
        pytest.param(Fault(429, headers={"Retry-After": "0"}), 1, "HTTP 429", id="429"),
        pytest.param(Fault(200, "<html>busy</html>"), 1, "not an answer: <html>busy</html>", id="garbage"),
        pytest.param(Fault(200, '{"choices": [7]}'), 1, "not an answer", id="other-json"),
        pytest.param(Fault(silence=60), 1, "no answer in time (3 attempts)", id="never", marks=pytest.mark.slow),
        pytest.param(Fault(401, f'{{"error": "{KEY} is bad"}}'), 2, "refuses the key: HTTP 401", id="401"),
    ],
)
def test_a_provider_that_fails_is_never_counted_as_a_wrong_answer(
    run_cli: RunCli, tmp_path: Path, fault: Fault, status: int, said: str
) -> None:
    tasks, out = write_tasks(tmp_path / "sums", 2), tmp_path / "out"
    with provider(lambda _: fault) as server:
        done = run_cli(*options(server, tasks, out), env=KEYS)
        assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert KEY not in done.stderr + (out / "results.jsonl").read_text(), "also where the provider quotes it"
        _, trials = found(out)
        assert all(trial.score is None for trial in trials.values())
        server.answer = adds
        again = run_cli("eval", "retry", out, env=KEYS)
        assert again.returncode == (0 if len(trials) == 2 else 1), again.stderr
        assert run_cli(*options(server, tasks, out), env=KEYS).returncode == 0
    _, trials = found(out)
    assert sorted(trial.score or 0.0 for trial in trials.values()) == [0.0, 1.0]


def test_a_fault_that_passes_costs_nothing(run_cli: RunCli, tmp_path: Path) -> None:
    asked: dict[str, int] = {}

    def sometimes(request: Request) -> str | Fault:
        text = request["messages"][-1]["content"]
        asked[text] = asked.get(text, 0) + 1
        return Fault(503) if asked[text] == 1 else adds(request)

    with provider(sometimes) as server:
        done = run_cli(*options(server, write_tasks(tmp_path / "sums", 4), tmp_path / "out"), env=KEYS)
    assert done.returncode == 0, done.stderr
    assert set(asked.values()) == {2}


def test_a_conversation_that_is_too_long_is_the_models_failure(run_cli: RunCli, tmp_path: Path) -> None:
    text = '{"message": "This model\'s maximum context length is 64 tokens."}'
    with provider(lambda _: Fault(400, text)) as server:
        done = run_cli(*options(server, write_tasks(tmp_path / "sums", 2), tmp_path / "out"), env=KEYS)
    assert done.returncode == 0, done.stderr
    _, trials = found(tmp_path / "out")
    assert {(trial.score, trial.ended) for trial in trials.values()} == {(0.0, "token_limit")}


@pytest.mark.slow
def test_a_dead_server_leaves_nothing_scored_and_the_same_command_goes_on(run_cli: RunCli, tmp_path: Path) -> None:
    tasks, out = write_tasks(tmp_path / "sums", 30), tmp_path / "out"
    with provider(adds) as gone:
        pass
    done = run_cli(*options(gone, tasks, out), env=KEYS)
    assert done.returncode == 1
    assert "nothing answers at" in done.stderr
    assert not (out / "results.jsonl").exists()

    server = Provider(adds)
    server.die_after(12)
    done = run_cli(*options(server, tasks, out, "--concurrency", "2"), env=KEYS)
    server.close()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "in a row could not be run" in done.stderr
    _, before = found(out)
    scored = {place for place, trial in before.items() if trial.score is not None}
    assert 8 <= len(scored) <= 12
    assert all(trial.score is None for place, trial in before.items() if place not in scored)

    with provider(adds) as alive:
        done = run_cli(*options(alive, tasks, out), env=KEYS)
    assert done.returncode == 0, done.stderr
    _, after = found(out)
    assert len(after) == 30
    assert len(alive.requests) == 30 - len(scored)
    assert {trial.task for trial in after.values() if trial.succeeded} == {f"sum-{n}" for n in range(0, 30, 2)}


def kill_and_go_on(tasks: Path, out: Path, server: Provider, chance: random.Random, number: int) -> None:
    """Start the evaluation and kill it: after some answers, or (now and then) before the first."""
    before, more = len(server.requests), chance.choice((0, *range(1, 12)))
    command = [sys.executable, "-P", "-m", "agent_sft", *options(server, tasks, out, "--concurrency", "4")]
    with Path(f"{out}.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **KEYS}, stdout=log, stderr=log)
        time.sleep(chance.uniform(0.0, 2.0) if more == 0 else 0.0)
        while len(server.requests) < before + more and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL if number % 2 else signal.SIGTERM)
        process.wait()


@pytest.fixture
def slow_server() -> Iterator[Provider]:
    def slowly(request: Request) -> str:
        time.sleep(0.15)
        return adds(request)

    with provider(slowly) as server:
        yield server


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_nothing(run_cli: RunCli, tmp_path: Path, slow_server: Provider) -> None:
    tasks, out, whole = write_tasks(tmp_path / "sums", 120), tmp_path / "out", tmp_path / "whole"
    chance = random.Random(7)
    for number in range(10):
        kill_and_go_on(tasks, out, slow_server, chance, number)
    killed = len((out / "results.jsonl").read_text().splitlines())
    assert 0 < killed < 120
    done = run_cli(*options(slow_server, tasks, out), env=KEYS)
    assert done.returncode == 0, done.stderr
    assert run_cli(*options(slow_server, tasks, whole), env=KEYS).returncode == 0
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert len(lines) == len({(line["task"], line["trial"]) for line in lines}) == 120

    def table(folder: Path) -> dict[tuple[str, int], Any]:
        _, trials = found(folder)
        return {place: (trial.score, trial.ended, trial.detail, trial.output_tokens) for place, trial in trials.items()}

    assert table(out) == table(whole)


def test_another_request_for_the_same_folder_is_refused(run_cli: RunCli, tmp_path: Path) -> None:
    tasks, out = write_tasks(tmp_path / "sums", 3), tmp_path / "out"
    with provider(adds) as server:
        assert run_cli(*options(server, tasks, out), env=KEYS).returncode == 0
        other = run_cli(*options(server, tasks, out, "--temperature", "1"), env=KEYS)
        assert other.returncode == 2
        assert "settings.temperature was 0.0, is 1.0" in other.stderr
        assert "temperature: 0.0" in (out / "eval.yaml").read_text()
        wrong = run_cli(*options(server, tasks, out, "--task-id", "sum-x", "--fresh"), env=KEYS)
        assert (wrong.returncode, (out / "results.jsonl").exists()) == (2, True)
        fresh = run_cli(*options(server, tasks, out, "--temperature", "1", "--fresh"), env=KEYS)
        assert fresh.returncode == 0, fresh.stderr
        listed = run_cli("eval", "list", out)
    assert "finished" in listed.stdout
    assert list((out / "set-aside").glob("*/results.jsonl"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "row 2"),
        ('{"task_id": "b", "instruction": "x"}', "row 2: has no 'verifier'"),
        ('{"task_id": "a", "instruction": "x", "verifier": {"fn_name": "exact", "expected": "y"}}', "row 2"),
    ],
)
def test_a_bad_row_is_named_before_anything_starts(run_cli: RunCli, tmp_path: Path, row: str, said: str) -> None:
    good = '{"task_id": "a", "instruction": "x", "verifier": {"fn_name": "exact", "expected": "y"}}'
    (tmp_path / "tasks.jsonl").write_text(f"{good}\n{row}\n")
    answer: Answer = adds
    with provider(answer) as server:
        done = run_cli(*options(server, tmp_path, tmp_path / "out"), env=KEYS)
    assert done.returncode == 2
    assert said in done.stderr
    assert not server.requests
    assert not (tmp_path / "out").exists()
