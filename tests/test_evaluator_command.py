"""The `command` evaluator: a program of the user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent_sft.evals.results import read_results
from tests.conftest import RunCli
from tests.provider import KEY, Provider, Request, provider

KEYS = {"AGENT_SFT_API_KEY": KEY}

PROGRAM = """
import json, os, pathlib, urllib.request
wanted = [json.loads(line) for line in open(os.environ["AGENT_SFT_PENDING"])]
rows = {row["task_id"]: row for row in map(json.loads, open(os.environ["AGENT_SFT_TASKS"]))}
out = pathlib.Path(os.environ["AGENT_SFT_OUT"]) / "results.jsonl"
for place in wanted:
    body = {"model": os.environ["AGENT_SFT_MODEL"],
            "messages": [{"role": "user", "content": rows[place["task"]]["say"]}]}
    request = urllib.request.Request(os.environ["AGENT_SFT_URL"] + "/chat/completions", json.dumps(body).encode(),
        {"Authorization": "Bearer " + os.environ["AGENT_SFT_KEY"], "Content-Type": "application/json"})
    said = json.loads(urllib.request.urlopen(request).read())["choices"][0]["message"]["content"]
    score = float(said == rows[place["task"]]["say"].upper())
    with out.open("a") as stream:
        stream.write(json.dumps({**place, "score": score, "ended": "done", "turns": 1}) + "\\n")
"""


@pytest.fixture(scope="session")
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


def options(server: Provider, folder: Path, *more: str) -> list[str]:
    return [
        *("eval", "run", "--model", server.url, "--evaluator", "command", "--script", str(folder / "score.py")),
        *("--task", str(folder / "words.jsonl"), "--out", str(folder / "out"), *more),
    ]


def shouts(request: Request) -> str:
    said = str(request["messages"][0]["content"])
    return said if said == "b" else said.upper()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"task_id": word, "say": word, "family": "letters"} for word in "abc"]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "score.py").write_text(PROGRAM)
    return tmp_path


def test_its_results_are_taken_over(run_cli: RunCli, folder: Path) -> None:
    with provider(shouts) as server:
        done = run_cli(*options(server, folder, "--trials", "2"), env={**KEYS, "XDG_CACHE_HOME": str(folder / "cache")})
    assert done.returncode == 0, done.stdout + done.stderr
    evaluation, trials = read_results(folder / "out")
    assert [(trial.task, trial.score) for trial in trials] == [
        *(("a", 1.0), ("a", 1.0), ("b", 0.0), ("b", 0.0), ("c", 1.0), ("c", 1.0))
    ]
    assert evaluation.floor == 0


@pytest.mark.parametrize(
    ("program", "status", "said"),
    [
        ("raise SystemExit(3)", 1, "exit code 3) with 3 trials without a result"),
        ("print('done')", 1, "exit code 0) with 3 trials without a result"),
        (PROGRAM.replace('"turns": 1', '"turn": 1'), 2, "field `turn`"),
        (PROGRAM.replace("**place", '**place, "task": "z"'), 2, "which was not asked for"),
        (PROGRAM.replace("score = float(", "score = 7 * float("), 2, "not between 0 and 1"),
    ],
)
def test_wrong_results_are_refused(run_cli: RunCli, folder: Path, program: str, status: int, said: str) -> None:
    (folder / "score.py").write_text(program)
    with provider(shouts) as server:
        done = run_cli(*options(server, folder), env=KEYS)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr


@pytest.mark.slow
def test_what_is_missing_runs_alone(run_cli: RunCli, folder: Path) -> None:
    (folder / "score.py").write_text(PROGRAM.replace("in wanted:", "in wanted[:1]:"))
    with provider(shouts) as server:
        assert [run_cli(*options(server, folder), env=KEYS).returncode for _ in range(3)] == [1, 1, 0]
    assert [request["messages"][0]["content"] for request in server.requests] == ["a", "b", "c"]


def test_bad_tasks_and_programs_are_named_before_anything_starts(run_cli: RunCli, folder: Path) -> None:
    with provider(shouts) as server:
        (folder / "words.jsonl").write_text('{"task_id": "a"}\n{"task": "b"}\n')
        done = run_cli(*options(server, folder), env=KEYS)
        assert (done.returncode, "words.jsonl, line 2: has no 'task_id'" in done.stderr) == (2, True)
        (folder / "score.py").rename(folder / "score")
        done = run_cli(*options(server, folder, "--script", str(folder / "score")), env=KEYS)
        assert (done.returncode, "chmod +x" in done.stderr) == (2, True)
    assert not (folder / "out").exists()
