"""Distillation against a provider whose behaviour the test decides."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agent_sft.data.store import resolve
from tests.conftest import ROOT, RunCli
from tests.distilling import TOOL, VARIABLE, adds, asked, options, rows, sums, teaching, write_rows
from tests.provider import KEY, Fault, Provider, Request, call, completion
from tests.support import QUICK, final_step, loaded_examples


@pytest.fixture(scope="session")
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


@pytest.mark.slow
def test_a_server_that_fails_in_every_way_costs_no_prompt(run_cli: RunCli, tmp_path: Path) -> None:
    """429, 500, half a body, nothing at all: each is asked again; the answers are a version of a dataset."""
    faults = [
        Fault(429, headers={"Retry-After": "0"}),
        Fault(500),
        Fault(200, json.dumps(completion({"model": "served"}, {"content": "It is"})), cut=True),
        Fault(200, "<html>busy</html>"),
        Fault(silence=0.05),
    ]
    seen: Counter[str] = Counter()

    def fails_first(request: Request) -> str | Fault:
        seen[asked(request)] += 1
        number = int(asked(request).split()[2])
        return faults[number % len(faults)] if seen[asked(request)] == 1 and number < 5 else adds(request)

    with teaching(fails_first, tmp_path) as (server, variables):
        done = run_cli(*options(server, sums(tmp_path, 8)), env=variables)
        assert done.returncode == 0, done.stderr
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AGENT_SFT_STORE", variables["AGENT_SFT_STORE"])
            made = rows(resolve("sums@0.1.0").path)
    said = {row["messages"][0]["content"]: row["messages"][1]["content"] for row in made}
    assert said == {f"What is {number} + 1?": f"It is {number + 1}." for number in range(8)}
    assert made[3]["metadata"]["source"] == f"{tmp_path / 'sums.jsonl'}, row 4"
    assert "bash run_sft.sh sums@0.1.0" in done.stdout
    everything = "".join(path.read_text(errors="ignore") for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in everything + done.stdout + done.stderr


@pytest.mark.slow
def test_a_finished_one_asks_nothing_and_another_choice_costs_nothing(run_cli: RunCli, tmp_path: Path) -> None:
    prompts = sums(tmp_path, 4)
    with teaching(adds, tmp_path) as (server, variables):
        assert run_cli(*options(server, prompts), env=variables).returncode == 0
        paid = len(server.requests)
        # Another verifier and a new version of the same dataset: the answers are there.
        more = ["--verifier", "regex", "--param", "pattern=2|3", "--concurrency", "2"]
        again = run_cli(*options(server, prompts, *more, to="sums@0.2.0"), env=variables)
        assert again.returncode == 0, again.stderr
        elsewhere = [str(tmp_path / "elsewhere"), "--reuse", str(tmp_path / "out")]
        other = run_cli(*options(server, prompts, "--out", *elsewhere, to=str(tmp_path / "file.jsonl")), env=variables)
        assert other.returncode == 0, other.stderr
        assert len(server.requests) == paid == 4
    failures = rows(tmp_path / "out" / "failures.jsonl")
    assert [(one["row"], one["kind"]) for one in failures] == [(1, "rejected"), (4, "rejected")]
    assert "nothing in it matches" in failures[0]["why"]
    assert len(rows(tmp_path / "file.jsonl")) == 4
    gone = run_cli(*options(server, prompts, *more, to="sums@0.2.0"), env=variables)
    assert (gone.returncode, "finished already" in gone.stdout) == (0, True)


def start(server: Provider, prompts: Path, variables: dict[str, str], *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "agent_sft", *options(server, prompts, *more)],
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.slow
def test_killed_ten_times_no_prompt_is_paid_for_twice_and_none_is_missing(run_cli: RunCli, tmp_path: Path) -> None:
    """SIGKILL while requests are under way: what they bring is kept by the process that outlives the command."""
    prompts = sums(tmp_path, 60)
    under_way, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def waits(request: Request) -> str:
        under_way.release()
        assert go_on.acquire(timeout=60)
        return adds(request)

    with teaching(waits, tmp_path) as (server, variables):
        for _ in range(10):
            killed = start(server, prompts, variables, "--concurrency", "4")
            for _ in range(4):
                assert under_way.acquire(timeout=60)
            os.killpg(killed.pid, signal.SIGKILL)
            killed.wait()
            go_on.release(4)
        go_on.release(1000)
        done = run_cli(*options(server, prompts, "--concurrency", "4"), env=variables)
        assert done.returncode == 0, done.stderr
        paid = Counter(map(asked, server.requests))
    assert len(paid) == 60
    assert set(paid.values()) == {1}
    assert len(rows(tmp_path / "out" / "conversations.jsonl")) == 60


@pytest.mark.slow
def test_ctrl_c_keeps_the_answers_that_are_under_way(run_cli: RunCli, tmp_path: Path) -> None:
    prompts, under_way, go_on = sums(tmp_path, 6), threading.Semaphore(0), threading.Event()

    def waits(request: Request) -> str:
        under_way.release()
        go_on.wait(60)
        return adds(request)

    with teaching(waits, tmp_path) as (server, variables):
        running = start(server, prompts, variables, "--concurrency", "3")
        for _ in range(3):
            assert under_way.acquire(timeout=60)
        running.send_signal(signal.SIGTERM)
        go_on.set()
        assert running.wait(60) == 143
        assert len(rows(tmp_path / "out" / "answers.jsonl")) == len(server.requests) >= 3
        assert run_cli(*options(server, prompts), env=variables).returncode == 0
        assert len(server.requests) == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ceiling", "said"),
    [
        (["--max-tokens-total", "150"], "the ceiling of 150 tokens"),
        (["--budget", "0.0004", "--price-in", "1", "--price-out", "20"], "the budget of 0.0004"),
    ],
    ids=["tokens", "money"],
)
def test_a_ceiling_is_never_passed_and_the_rest_is_listed(
    run_cli: RunCli, tmp_path: Path, ceiling: list[str], said: str
) -> None:
    """Each answer takes 15 tokens, and 0.00011 of money."""
    prompts = sums(tmp_path, 20)
    with teaching(adds, tmp_path) as (server, variables):
        done = run_cli(*options(server, prompts, "--max-tokens", "10", *ceiling), env=variables)
        assert done.returncode == 1
        assert said in done.stderr
        assert "--allow-missing" in done.stderr
        answered = len(server.requests)
        record = json.loads((tmp_path / "out" / "distillation.json").read_text())
        spent = record["input_tokens"] + record["output_tokens"]
        assert 0 < spent <= 150
        assert record["cost"] is None or 0 < record["cost"] <= 0.0004
        assert (record["conversations"], record["not_asked"]) == (answered, 20 - answered)
        assert not (tmp_path / "store").exists()
        kept = run_cli(*options(server, prompts, "--max-tokens", "10", *ceiling, "--allow-missing"), env=variables)
        assert kept.returncode == 0, kept.stderr
        assert len(server.requests) == answered
        more = run_cli(*options(server, prompts, "--max-tokens", "10", to="sums@0.2.0"), env=variables)
        assert more.returncode == 0, more.stderr
        assert len(server.requests) == 20


@pytest.mark.slow
def test_samples_are_asked_for_until_one_is_accepted(run_cli: RunCli, tmp_path: Path) -> None:
    tasks = [
        {
            "task_id": f"sum {number}",
            "instruction": f"What is {number} + 1?",
            "verifier": {"kind": "in_process", "fn_name": "numeric", "expected": number + 1},
        }
        for number in range(3)
    ]
    prompts = write_rows(tmp_path / "tasks.jsonl", tasks)
    times: Counter[str] = Counter()

    def knows_later(request: Request) -> str:
        """0 at once; 1 the second time, since no call can be read in the first answer, right as it is; 2 never."""
        times[asked(request)] += 1
        known = times[asked(request)] > int(asked(request).split()[2])
        return adds(request) if known else f'<tool_call>\n{{"name": "add", "arguments": {{\n{adds(request)}'

    with teaching(lambda request: "It is 99." if "2 +" in asked(request) else knows_later(request), tmp_path) as (
        server,
        variables,
    ):
        done = run_cli(*options(server, prompts, "-n", "3"), env=variables)
        assert done.returncode == 0, done.stderr
        assert Counter(asked(one).split()[2] for one in server.requests) == {"0": 1, "1": 2, "2": 3}
    made = {row["metadata"]["prompt"]: row for row in rows(tmp_path / "out" / "conversations.jsonl")}
    assert {name: row["metadata"]["sample"] for name, row in made.items()} == {"sum 0": 0, "sum 1": 1}
    (failure,) = rows(tmp_path / "out" / "failures.jsonl")
    assert (failure["prompt"], failure["kind"], len(failure["samples"])) == ("sum 2", "rejected", 3)
    assert "99" in failure["why"]
    transcripts = {one["transcript"].partition("#")[0] for one in failure["samples"]}
    assert all((tmp_path / "out" / name).is_file() for name in transcripts)


@pytest.mark.parametrize(("keep", "kept"), [("all", ["short", "much longer"]), ("best", ["short"])])
def test_all_or_the_best_of_several_are_kept(run_cli: RunCli, tmp_path: Path, keep: str, kept: list[str]) -> None:
    lock, said = threading.Lock(), iter(["much longer", "", "short"])

    def answer(request: Request) -> dict[str, Any]:
        with lock:
            return {"content": next(said)}

    prompts = write_rows(tmp_path / "one.jsonl", [{"prompt": "Speak."}])
    with teaching(answer, tmp_path) as (server, variables):
        more = ["-n", "3", "--keep", keep, "--concurrency", "1"]
        done = run_cli(*options(server, prompts, *more), env=variables)
        assert done.returncode == 0, done.stderr
        assert len({request["seed"] for request in server.requests}) == 3
    made = [row["messages"][-1]["content"] for row in rows(tmp_path / "out" / "conversations.jsonl")]
    assert len(made) == len(kept)
    assert set(made) <= {"short", "much longer"}


@pytest.mark.slow
def test_conversations_are_asked_anew_from_their_last_answer(run_cli: RunCli, tmp_path: Path) -> None:
    """Tools are shown, what others said in the agent's name carries no loss, a call that cannot be read is rejected."""
    before = [
        {"role": "system", "content": "You help."},
        {"role": "user", "content": "Look C1 up."},
        {"role": "assistant", **call("look_up", {"id": "C1"})},
        {"role": "tool", "tool_call_id": "call_1", "content": "gold"},
    ]
    conversations = [
        {"messages": [*before, {"role": "assistant", "content": "Silver."}], "tools": [TOOL]},
        {"messages": [{"role": "user", "content": "Look C2 up."}], "tools": [TOOL]},
        {"messages": [{"role": "user", "content": "Look nothing up."}], "tools": [TOOL]},
        {"messages": [{"role": "assistant", "content": "Hello!"}]},
    ]
    prompts = write_rows(tmp_path / "given.jsonl", conversations)

    def answer(request: Request) -> dict[str, Any]:
        last = asked(request)
        if last == "gold":
            return {"content": "Gold.", "reasoning_content": "It says so."}
        return call("look_up" if "C2" in last else "look_down", {"id": "C2"})

    with teaching(answer, tmp_path) as (server, variables):
        refused = run_cli(*options(server, prompts), env=variables)
        assert refused.returncode == 2
        assert "row 4: nobody asks anything in it" in refused.stderr
        assert not server.requests
        done = run_cli(*options(server, prompts, "--allow-rejects"), env=variables)
        assert done.returncode == 0, done.stderr
        assert all(request["tools"] == [TOOL] for request in server.requests)
        bare = run_cli(*options(server, prompts, "--allow-rejects", "--no-reasoning", to="bare@1.0.0"), env=variables)
        assert bare.returncode == 0, bare.stderr
        assert len(server.requests) == 3
    assert KEY not in done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENT_SFT_STORE", variables["AGENT_SFT_STORE"])
        told, calling = rows(resolve("sums@0.1.0").path)
        silent, _ = rows(resolve("bare@1.0.0").path)
    assert told["messages"][-1] == {"role": "assistant", "content": "Gold.", "reasoning_content": "It says so."}
    assert "reasoning_content" not in silent["messages"][-1]
    assert told["messages"][2]["weight"] == 0
    assert calling["messages"][-1]["tool_calls"][0]["function"]["name"] == "look_up"
    assert calling["tools"] == [TOOL]
    failures = rows(tmp_path / "out" / "failures.jsonl")
    assert [(one["row"], one["kind"]) for one in failures] == [(3, "rejected"), (4, "unusable")]
    assert "a tool that it was not given" in failures[0]["why"]


@pytest.mark.slow
def test_a_server_that_stays_down_leaves_its_prompts_listed(run_cli: RunCli, tmp_path: Path) -> None:
    prompts = sums(tmp_path, 4)
    with teaching(lambda request: Fault(500) if "3 +" in asked(request) else adds(request), tmp_path) as (
        server,
        variables,
    ):
        done = run_cli(*options(server, prompts, "--max-retries", "1"), env=variables)
        assert done.returncode == 1
        assert "no answer to 1 prompt; sums@0.1.0 is not written" in done.stderr
        (failure,) = rows(tmp_path / "out" / "failures.jsonl")
        assert (failure["row"], failure["kind"]) == (4, "unanswered")
        assert "HTTP 500: it went wrong (2 attempts)" in failure["why"]
        server.answer = adds
        assert run_cli(*options(server, prompts), env=variables).returncode == 0
        assert len(server.requests) == 6


@pytest.mark.slow
def test_a_wait_that_the_server_asks_for_holds_all_requests_back(run_cli: RunCli, tmp_path: Path) -> None:
    """After a 429 that asks for a pause, nothing goes out before it is over."""
    times: list[float] = []

    def limits(request: Request) -> str | Fault:
        times.append(time.monotonic())
        return Fault(429, headers={"Retry-After": "1"}) if len(times) == 1 else adds(request)

    with teaching(limits, tmp_path) as (server, variables):
        done = run_cli(*options(server, sums(tmp_path, 5), "--concurrency", "1"), env=variables)
    assert done.returncode == 0, done.stderr
    assert times[1] - times[0] >= 1


@pytest.mark.slow
def test_what_was_distilled_is_trained_on_at_once(run_cli: RunCli, tmp_path: Path) -> None:
    given = [{"prompt": f"Look C{number} up.", "tools": [TOOL]} for number in range(12)]
    out = tmp_path / "run"

    def answer(request: Request) -> dict[str, Any]:
        return {"reasoning_content": "Let me see.", **call("look_up", {"id": asked(request).split()[1]})}

    with teaching(answer, tmp_path) as (server, variables):
        training = ["--then", "train", "--", *QUICK, "--steps", "2", "--output-dir", str(out)]
        done = run_cli(*options(server, write_rows(tmp_path / "ask.jsonl", given), *training), env=variables)
    assert done.returncode == 0, done.stderr
    assert loaded_examples(out) == [12]
    assert final_step(out) == 2


@pytest.mark.slow
def test_an_inspect_task_becomes_conversations_with_its_tools(run_cli: RunCli, tmp_path: Path) -> None:
    """Killed in the middle of a conversation, it goes on from the answers that it has."""
    turns: Counter[str] = Counter()

    def works(request: Request) -> dict[str, Any] | str:
        messages = request["messages"]
        turns[json.dumps(messages)] += 1
        if messages[-1]["role"] != "tool":
            return call("double", {"number": int(messages[0]["content"].removesuffix(".").split()[1])})
        return f"It is {messages[-1]['content']}."

    with teaching(works, tmp_path) as (server, variables):
        command = [
            *("distill", "--task", "tests/inside/tool_task.py", "--teacher", server.url, "--key-variable", VARIABLE),
            *("--to", "doubles@0.1.0", "--out", str(tmp_path / "out")),
        ]
        ceiling = run_cli(*command, "--max-tokens", "10", "--max-tokens-total", "60", env=variables, cwd=ROOT)
        assert ceiling.returncode == 1
        assert "the ceiling of 60 tokens" in ceiling.stderr
        done = run_cli(*command, "--max-tokens", "10", env=variables, cwd=ROOT)
        assert done.returncode == 0, done.stderr
    assert set(turns.values()) == {1}, "what was asked before the ceiling is not asked again"
    made = rows(tmp_path / "out" / "conversations.jsonl")
    assert [[message["role"] for message in row["messages"]] for row in made] == [
        ["user", "assistant", "tool", "assistant"]
    ] * 2
    assert made[0]["tools"][0]["function"]["name"] == "double"
    (failure,) = rows(tmp_path / "out" / "failures.jsonl")
    assert failure["kind"] == "rejected"
