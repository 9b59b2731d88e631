"""`agent-sft eval draft`: benchmarks made of data, where its answers can be checked."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_sft.errors import UserError, WorkFailed
from agent_sft.evals.tasks import read_tasks
from agent_sft.evals.verifiers.contract import Answer, Call
from agent_sft.stages.drafting import draft
from tests.conftest import RunCli
from tests.support import SMALL

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="session")
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


def written(folder: Path, answer: Callable[[int], str], rows: int = 30) -> Path:
    path = folder / "data.jsonl"
    lines = [
        {"messages": [{"role": "user", "content": f"Question {n}?"}, {"role": "assistant", "content": answer(n)}]}
        for n in range(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


KINDS: list[tuple[str, Callable[[int], str], str, str, str]] = [
    # What is found, an answer, the built-in verifier, another right answer to question 3, a wrong one.
    ("numbers", lambda n: f"{n * 7}", "numeric", "21.0", "20"),
    ("numbers", lambda n: f"{n * 7} EUR.", "numeric", "It is 21 EUR", "20 EUR."),
    ("numbers marked by ####", lambda n: f"{n} + 1 is more.\n#### {n + 1:,}", "numeric", "5 or\n#### 4", "4"),
    ("numbers marked by \\boxed{}", lambda n: f"So $\\boxed{{{n}.5}}$.", "numeric", "\\boxed{3.50}", "\\boxed{3}"),
    ("numbers marked by the answer is", lambda n: f"{n}, {n}. The answer is {n}.", "numeric", "the answer is: 3", "3"),
    ("labels", lambda n: COLOURS[n % 3], "exact", " red\n", "not red"),
    (
        "labels marked by <answer>",
        lambda n: f"<answer>TOOL_{n}</answer>",
        "exact",
        "so <answer> TOOL_3 </answer>",
        "TOOL_3",
    ),
    ("JSON", lambda n: json.dumps({"n": n, "ok": n % 2 == 1}), "json_equal", '{"ok": true, "n": 3}', '{"n": 3}'),
    ("JSON", lambda n: f"```json\n[{n}, 1]\n```", "json_equal", "[3, 1]", "[3, 2]"),
]


@pytest.mark.parametrize(("title", "answer", "verifier", "right", "wrong"), KINDS)
def test_checkable_answers_become_a_benchmark(
    tmp_path: Path, title: str, answer: Callable[[int], str], verifier: str, right: str, wrong: str
) -> None:
    made = draft(str(written(tmp_path, answer)), tmp_path / "out", tasks=30)
    assert (made.title, made.checked, made.accepted, made.works) == (title, 30, 30, True)
    assert len(made.rejected) >= 3
    assert all(told == of >= 20 for told, of in made.rejected.values())
    assert f'verify("{verifier}"' in (tmp_path / "out" / "evaluator.py").read_text()
    tasks = {task.id: task for task in read_tasks(tmp_path / "out")}
    third = tasks["data-4"]
    assert third.messages == ({"role": "user", "content": "Question 3?"},)
    assert third.verifier.verify(Answer(text=right)).score == 1
    assert third.verifier.verify(Answer(text=wrong)).score == 0


def test_tool_calls_become_a_benchmark(tmp_path: Path) -> None:
    made = draft(str(SMALL), tmp_path / "out")
    assert made.works
    assert (made.title, made.tasks, made.train) == ("tool calls", 5, 19)
    for task in read_tasks(tmp_path / "out"):
        assert task.messages[-1]["role"] in ("user", "tool")
        roles = [message["role"] for message in task.messages]
        assert ("assistant", "assistant") not in itertools.pairwise(roles)
        (expected,) = task.verifier.config.expected
        assert task.family == expected["name"]
        right = Call(expected["name"], expected["arguments"])
        assert task.verifier.verify(Answer(calls=(right,))).score == 1
        assert task.verifier.verify(Answer(calls=(right, right))).score == 0
        in_text = f"<tool_call>\n{json.dumps(expected)}\n</tool_call>"
        assert task.verifier.verify(Answer(text=in_text)).score == 1


def test_what_is_held_out_is_not_trained_on(tmp_path: Path) -> None:
    """Also where the same question is there several times."""
    path = written(tmp_path, lambda n: f"{n}", rows=20)
    path.write_text(path.read_text() * 2)
    made = draft(str(path), tmp_path / "out", tasks=8)
    rows = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    trained = {row["messages"][0]["content"] for row in rows}
    asked = {task.messages[0]["content"] for task in read_tasks(tmp_path / "out")}
    assert (len(asked), len(trained), made.train) == (8, 12, 24)
    assert not asked & trained


def test_what_is_held_out_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    path = written(tmp_path, lambda n: f"{n}")
    draft(str(path), tmp_path / "one")
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    draft(str(path), tmp_path / "other")
    asked = [{task.messages[0]["content"] for task in read_tasks(tmp_path / name)} for name in ("one", "other")]
    assert asked[0] == asked[1]
    assert len(asked[0]) == 6


def test_rows_that_are_no_tasks_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, lambda n: "I do not know." if n == 7 else f"{n}")
    with path.open("a") as stream:
        stream.write(json.dumps({"messages": [{"role": "user"}]}) + "\n")
        question = {"role": "user", "content": "Question 3?"}
        stream.write(json.dumps({"messages": [question, {"role": "assistant", "content": "99"}]}) + "\n")
    made = draft(str(path), tmp_path / "out")
    reasons = {place.split(", ")[1]: reason for place, reason in made.left_out}
    assert set(reasons) == {"row 8", "row 31", "row 4", "row 32"}
    assert reasons["row 8"] == "holds no numbers"
    assert reasons["row 4"] == reasons["row 32"] == "the same is asked elsewhere with another answer"
    report = json.loads((tmp_path / "out" / "draft.json").read_text())
    assert len(report["left_out"]) == 4


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        (lambda n: f"That is hard to say, {'very ' * n}hard.", "none of the known kinds"),
        (lambda n: f"{n}" if n % 3 else "Who knows, and who would ask that?", "20 numbers"),
        (lambda n: "yes", "none of the known kinds"),
    ],
)
def test_answers_that_cannot_be_checked_are_said_so(tmp_path: Path, answer: Callable[[int], str], counts: str) -> None:
    with pytest.raises(WorkFailed, match="cannot be checked") as failed:
        draft(str(written(tmp_path, answer)), tmp_path / "out")
    assert counts in str(failed.value)
    assert not (tmp_path / "out").exists()


def test_an_evaluator_that_was_changed_is_not_lost(tmp_path: Path) -> None:
    path = written(tmp_path, lambda n: f"{n}")
    draft(str(path), tmp_path / "out")
    draft(str(path), tmp_path / "out")
    (tmp_path / "out" / "evaluator.py").write_text("mine")
    with pytest.raises(UserError, match=r"evaluator\.py"):
        draft(str(path), tmp_path / "out")
    assert (tmp_path / "out" / "evaluator.py").read_text() == "mine"


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are 30 tasks"):
        draft(str(written(tmp_path, lambda n: f"{n}")), tmp_path / "out", tasks=31)
    with pytest.raises(UserError):
        draft(str(tmp_path / "missing.json"), tmp_path / "out")


def test_tiny_numbers_are_told_apart(tmp_path: Path) -> None:
    made = draft(str(written(tmp_path, lambda n: f"{n + 1}e-9")), tmp_path / "out")
    assert made.works


def test_the_command_shows_how_the_evaluator_did(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("eval", "draft", SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "checkable: tool calls, in 24 of 24 conversations"
    assert lines[1] == "accepted: 24 of 24 references"
    assert "rejected: 24 of 24 with a changed argument" in lines
    assert (tmp_path / "telecom_small_24_eval" / "tasks.jsonl").is_file()


def test_the_command_exits_1_where_nothing_can_be_checked(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("eval", "draft", written(tmp_path, lambda n: f"Well, {'so ' * n}it is."), cwd=tmp_path)
    assert done.returncode == 1
    assert "the answers cannot be checked" in done.stderr
    assert "Traceback" not in done.stderr
