"""Tasks as they are written in `tasks.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent_sft.errors import UserError
from agent_sft.evals.tasks import read_tasks
from agent_sft.evals.verifiers.contract import Answer

VERIFIER = {"kind": "in_process", "fn_name": "contains", "expected": "4"}


def row(**changes: Any) -> dict[str, Any]:
    return {"task_id": "sum", "instruction": "2 + 2?", "verifier": VERIFIER, **changes}


def tasks_in(folder: Path, *rows: Any) -> Path:
    lines = [each if isinstance(each, str) else json.dumps(each) for each in rows]
    (folder / "tasks.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_an_instruction_is_what_the_user_says(tmp_path: Path) -> None:
    (task,) = read_tasks(tasks_in(tmp_path, row(system="Be brief.", family="sums")))
    assert task.messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"})
    assert (task.id, task.family, task.tools) == ("sum", "sums", ())
    assert task.verifier.verify(Answer(text="It is 4.")).score == 1


def test_messages_and_tools(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "look"}}]},
        {"role": "tool", "content": "4", "tool_call_id": "1"},
    ]
    tools = [{"name": "look", "parameters": {}}, {"type": "function", "function": {"name": "act"}}]
    given = row(messages=messages, tools=tools)
    del given["instruction"]
    (task,) = read_tasks(tasks_in(tmp_path, given))
    assert list(task.messages) == messages
    assert [tool["function"]["name"] for tool in task.tools] == ["look", "act"]
    assert {tool["type"] for tool in task.tools} == {"function"}


def test_a_file_can_be_named_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    tasks_in(tmp_path, row(), "", row(task_id=7))
    assert [task.id for task in read_tasks(tmp_path / "tasks.jsonl")] == ["sum", "7"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{", "not JSON"),
        ([], "is no object"),
        (row(task_id=None), "'task_id' is missing"),
        (row(task_id="fine"), "is called 'fine' too"),
        (row(instructions="x"), "did you mean 'instruction'?"),
        (row(messages=[{"role": "user", "content": "x"}]), "either 'instruction' or 'messages'"),
        (row(instruction=None), "either 'instruction' or 'messages'"),
        (row(instruction=3), "'instruction' is no text"),
        (row(instruction=None, messages=[]), "no array of messages"),
        (row(instruction=None, messages=["x"]), "message 1 is no object"),
        (row(instruction=None, messages=[{"role": "human", "content": "x"}]), "message 1 has the role 'human'"),
        (row(instruction=None, messages=[{"role": "user"}]), "message 1 has no 'content'"),
        (row(instruction=None, messages=[{"role": "assistant", "content": "x"}]), "the last message"),
        (row(tools={}), "'tools' is no array"),
        (row(tools=[{}]), "tool 1 has no 'name'"),
        (row(tools=[{"name": "a"}, {"name": "a"}]), "two tools are called 'a'"),
        (row(family=3), "'family' is no text"),
        ({"task_id": "x", "instruction": "y"}, "has no 'verifier'"),
        (row(verifier={"fn_name": "contain", "expected": "4"}), "did you mean 'contains'?"),
        (row(verifier={"fn_name": "numeric", "expectd": 4}), "'numeric'"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, bad: Any, said: str) -> None:
    with pytest.raises(UserError) as refused:
        read_tasks(tasks_in(tmp_path, row(task_id="fine"), bad, row(task_id="other")))
    message = str(refused.value)
    assert "tasks.jsonl: 1 of 3 rows cannot be used" in message
    assert "row 2: " in message
    assert said in message


def test_all_bad_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        read_tasks(tasks_in(tmp_path, *[row(task_id=f"t{n}", family=n) for n in range(30)]))
    message = str(refused.value)
    assert "30 of 30 rows" in message
    assert "row 10: " in message
    assert "row 11: " not in message
    assert "and 20 more" in message


def test_no_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no tasks\.jsonl"):
        read_tasks(tmp_path)
    with pytest.raises(UserError, match="the file is empty"):
        read_tasks(tasks_in(tmp_path, ""))
