"""The `inspect` evaluator: Inspect itself, against a provider whose behaviour the test decides."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agent_sft.data.eval_logs import read_eval_log
from agent_sft.evals.results import Evaluation, Trial, read_results
from tests.conftest import ROOT, RunCli
from tests.provider import KEY, Fault, Provider, Request, provider
from tests.serving import command_of, family_of

pytestmark = pytest.mark.slow

KEYS = {"AGENT_SFT_API_KEY": KEY, "AGENT_SFT_USER_API_KEY": KEY}
TASK = "tests/inside/odd_task.py"


@pytest.fixture
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


@pytest.fixture
def nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be known of tasks by earlier commands."""
    monkeypatch.setattr("agent_sft.engines.cache.cache_home", lambda: tmp_path / "cache")


def adds(request: Request) -> str:
    words = request["messages"][0]["content"].rstrip("?").split()
    if not words[2].isdigit():
        return "so be it"
    return f"It is {int(words[2]) * 2 + int(words[2]) % 2}."


def options(server: Provider, out: Path, *more: str) -> list[str]:
    return [
        *("eval", "run", "--model", server.url, "--evaluator", "inspect", "--task", TASK, "--out", str(out)),
        *("--max-retries", "1", "--request-timeout", "60", "--token-limit", "60", *more),
    ]


def found(out: Path) -> tuple[Evaluation, dict[tuple[str, int], Trial]]:
    evaluation, trials = read_results(out)
    return evaluation, {trial.place: trial for trial in trials}


@pytest.mark.usefixtures("nothing_known")
def test_trials_errors_and_limits_are_told_apart(run_cli: RunCli, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def fails(request: Request) -> str | Fault:
        text = request["messages"][0]["content"]
        return Fault(500) if "swallows" in text or " 3 " in text else adds(request)

    with provider(fails) as server:
        done = run_cli(*options(server, out, "--trials", "2"), env=KEYS, cwd=ROOT)
        evaluation, trials = found(out)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "4 of 16 trials have no score" in done.stderr
        scores = {place: trial.score for place, trial in trials.items()}
        lost = {place for place, score in scores.items() if score is None}
        assert lost == {(name, number) for name in ("sum-3", "swallows") for number in (0, 1)}
        assert all("it went wrong" in str(trials[place].error) for place in lost)
        assert all(scores[f"sum-{n}", t] == (n + 1) % 2 for n in range(6) if n != 3 for t in (0, 1))
        assert {trials["endless", t].ended for t in (0, 1)} == {"token_limit"}
        assert evaluation.tasks[:3] == ["sum-0", "sum-1", "sum-2"], "not shuffled"
        assert evaluation.floor == pytest.approx(2 / 8), "two samples are won by doing nothing"
        assert trials["sum-0", 0].family == "sums"
        assert {request["temperature"] for request in server.requests} == {0.0}
        seeds = {(str(r["messages"][0]["content"]), r["seed"]) for r in server.requests}
        assert len(seeds) == 16, "a seed for each trial of each task, the same in all its requests"
        assert_transcripts(out, trials)

        server.answer, before = adds, len(server.requests)
        again = run_cli("eval", "retry", out, env=KEYS, cwd=ROOT)
        assert again.returncode == 0, again.stderr
        repeated = {str(r["messages"][0]["content"]) for r in server.requests[before:]}
        assert repeated == {"What is 3 + 3?", "This is the swallows one"}
    _, trials = found(out)
    assert trials["sum-3", 1].score == 0
    assert trials["swallows", 1].score == 1
    assert KEY not in "".join(path.read_text(errors="ignore") for path in out.rglob("*") if path.is_file())


@pytest.mark.usefixtures("nothing_known")
def test_tools_reach_the_server_as_they_stand_in_the_training_data(run_cli: RunCli, tmp_path: Path) -> None:
    task = "examples/mini_telecom/mini_telecom.py@mini_telecom"
    with provider(lambda request: "Goodbye.") as server:
        command = options(server, tmp_path / "out", "--limit", "1")
        command[command.index(TASK)] = task
        done = run_cli(*command, env=KEYS, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr
        tools = [tool["function"] for request in server.requests for tool in request.get("tools", ())]
    assert tools
    assert {key for tool in tools for key in tool} == {"name", "description", "parameters"}


def assert_transcripts(out: Path, trials: dict[tuple[str, int], Trial]) -> None:
    """Every trial stands in Inspect's own log, at the place that is told, and our reader of logs finds it."""
    logs: dict[str, set[str]] = {}
    for trial in trials.values():
        name, _, inside = str(trial.transcript).partition("#")
        if name not in logs:
            rows = [row["sample"] for _, row in read_eval_log(out / name)]
            assert KEY not in str(rows)
            logs[name] = {f"samples/{row['id']}_epoch_{row['epoch']}.json" for row in rows}
        assert inside in logs[name]


def test_a_dead_server_leaves_nothing_scored_and_the_same_command_goes_on(run_cli: RunCli, tmp_path: Path) -> None:
    out, few = tmp_path / "out", ("--concurrency", "2", "--param", "args={count: 20}")
    with provider(adds) as gone:
        pass
    done = run_cli(*options(gone, out, *few), env=KEYS, cwd=ROOT)
    assert done.returncode == 1
    assert "nothing answers at" in done.stderr
    assert not out.exists()

    server = Provider(adds)
    server.die_after(8)
    done = run_cli(*options(server, out, *few), env=KEYS, cwd=ROOT)
    server.close()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "in a row could not be run" in done.stderr
    _, before = found(out)
    scored = {place for place, trial in before.items() if trial.score is not None}
    assert 4 <= len(scored) <= 8
    assert all(trial.error for place, trial in before.items() if place not in scored)

    with provider(adds) as alive:
        done = run_cli(*options(alive, out, *few), env=KEYS, cwd=ROOT)
        asked = {str(request["messages"][0]["content"]) for request in alive.requests}
    assert done.returncode == 0, done.stdout + done.stderr
    _, after = found(out)
    assert len(after) == 22
    assert len(asked) == 22 - len(scored)
    assert all(after[f"sum-{n}", 0].score == (n + 1) % 2 for n in range(20))


class Allowance:
    """Lets a provider answer so many requests of each run; the others wait until the run is killed."""

    def __init__(self) -> None:
        self._round = self._left = 0
        self._changed = threading.Condition()

    def begin(self, left: int) -> None:
        """Let so many requests of the run that comes be answered."""
        with self._changed:
            self._round, self._left = self._round + 1, left
            self._changed.notify_all()

    def take(self) -> None:
        """Wait for an answer of this run, or for its end."""
        with self._changed:
            mine = self._round
            self._changed.wait_for(lambda: self._left > 0 or self._round != mine)
            if self._round == mine:
                self._left -= 1


def kill_and_go_on(
    command: list[str], log: Path, server: Provider, allowance: Allowance, chance: random.Random, number: int
) -> None:
    """Start the evaluation and kill it while Inspect starts, or after some requests; or kill Inspect under it."""
    before, more = len(server.requests), 0 if number % 4 == 2 else chance.randint(2, 6)
    allowance.begin(more + 1)
    with log.open("ab") as stream:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **KEYS}, stdout=stream, stderr=stream)
    time.sleep(chance.uniform(0.0, 1.0) if more == 0 else 0.0)
    while len(server.requests) < before + more and process.poll() is None:
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 0.3))
    inside = [child for child in family_of(process.pid) if "evaluate.py" in command_of(child)]
    if number % 3 == 1 and inside:
        inside[0].kill()
        assert process.wait() == 1
    else:
        process.send_signal(signal.SIGTERM if number % 3 == 2 else signal.SIGKILL)
        assert process.wait() in (143, -signal.SIGTERM, -signal.SIGKILL)


def test_ten_kills_at_random_moments_change_nothing(run_cli: RunCli, tmp_path: Path) -> None:
    out, whole, chance, allowance = tmp_path / "out", tmp_path / "whole", random.Random(11), Allowance()

    def slowly(request: Request) -> str:
        allowance.take()
        time.sleep(0.1)
        return adds(request)

    with provider(slowly) as server:
        few = ("--trials", "3", "--param", "args={count: 18}")
        command = [sys.executable, "-P", "-m", "agent_sft", *options(server, out, *few, "--concurrency", "2")]
        for number in range(10):
            kill_and_go_on(command, tmp_path / "log", server, allowance, chance, number)
        allowance.begin(1000)
        assert 10 < len((out / "results.jsonl").read_text().splitlines()) < 60, (tmp_path / "log").read_text()
        for place in (out, whole):
            done = run_cli(*options(server, place, *few), env=KEYS, cwd=ROOT)
            assert done.returncode == 0, done.stderr
    lines = (out / "results.jsonl").read_text().splitlines()
    _, trials = found(out)
    assert len(lines) == len(trials) == 60
    assert_transcripts(out, trials)

    def table(folder: Path) -> dict[tuple[str, int], Any]:
        return {
            place: (trial.score, trial.ended, trial.detail, trial.turns, trial.output_tokens)
            for place, trial in found(folder)[1].items()
        }

    assert table(out) == table(whole)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--task", "inspect_evals/tau2_telecm"), "did you mean 'inspect_evals/tau2_telecom'?"),
        (("--task", "nothing_here.py"), "no such file"),
        (("--param", "args={cuont: 1}"), "has no argument 'cuont'"),
        (("--task-id", "sum-99"), "there is no task 'sum-99'"),
        (("--param", "scorrer=x"), "did you mean 'scorer'?"),
        (("--user-model", "opnai/gpt-4.1"), "did you mean 'openai'?"),
        (("--user-model", "openai/gpt-4.1"), "set OPENAI_API_KEY, or write it into .env"),
        (("--task", "inspect_evals/tau2_airline"), "a model plays it"),
    ],
)
def test_a_wrong_request_is_said_before_anything_starts(
    run_cli: RunCli, tmp_path: Path, more: tuple[str, str], said: str
) -> None:
    with provider(adds) as server:
        given = options(server, tmp_path / "out", *more)
        done = run_cli(*given, env={**KEYS, "OPENAI_API_KEY": ""}, cwd=ROOT)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not server.requests
    assert not (tmp_path / "out").exists()
