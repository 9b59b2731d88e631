"""Rollouts of agents: result files of tau2 and logs of Inspect."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from agent_sft.data.conversation import Origin
from agent_sft.data.formats import detect, inspect, tau2
from agent_sft.data.preparing import prepare_dataset
from agent_sft.data.rewards import Rewards
from agent_sft.data.sources import open_sources
from agent_sft.data.turns import Unusable
from agent_sft.errors import UserError

ORIGIN = Origin(file="f", row=1)


def simulation(reward: float, trial: int = 0) -> dict[str, Any]:
    """A simulation as tau2 0.2 writes it, with a step that the user takes with a tool of its own."""
    return {
        "id": f"s{trial}",
        "task_id": "7",
        "trial": trial,
        "termination_reason": "user_stop",
        "reward_info": {"reward": reward, "reward_basis": ["DB"]},
        "agent_cost": None,
        "messages": [
            {"role": "assistant", "content": "Hi!", "tool_calls": None, "turn_idx": 0, "cost": 0.0},
            {"role": "user", "content": "No data.", "tool_calls": None, "turn_idx": 1},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c1", "name": "get_line", "arguments": {"id": "L1"}, "requestor": "assistant"},
                {"id": "c2", "name": "get_plan", "arguments": {}, "requestor": "assistant"},
            ]},
            {"role": "tool", "tool_messages": [
                {"id": "c2", "role": "tool", "content": "plan", "requestor": "assistant", "error": False},
                {"id": "c1", "role": "tool", "content": "line", "requestor": "assistant", "error": True},
            ]},
            {"role": "assistant", "content": "Restart it.", "tool_calls": None},
            {"role": "user", "content": None, "tool_calls": [
                {"id": "u1", "name": "restart", "arguments": {}, "requestor": "user"},
            ]},
            {"id": "u1", "role": "tool", "content": "on", "requestor": "user", "error": False},
            {"role": "user", "content": "It works.", "tool_calls": None},
            {"role": "assistant", "content": "Good.", "tool_calls": None},
            {"role": "user", "content": "###STOP###", "tool_calls": None},
        ],
    }  # fmt: skip


def result_file(folder: Path, indent: int | None, name: str = "run.json") -> Path:
    path = folder / name
    content = {
        "timestamp": "2025",
        "info": {"environment_info": {"domain_name": "telecom", "policy": "Be kind.", "tool_defs": None}},
        "tasks": [{"id": "6"}, {"id": "7", "ticket": "t"}],
        "simulations": [simulation(1.0), simulation(0.0, trial=1), simulation(0.5, trial=2)],
    }
    path.write_text(json.dumps(content, indent=indent))
    return path


def sample(value: Any, epoch: int = 1) -> dict[str, Any]:
    """A sample as Inspect writes it."""
    call = {"id": "c1", "function": "look", "arguments": {"q": "attachment://a1"}, "type": "function"}
    return {
        "id": "x",
        "epoch": epoch,
        "input": "q",
        "target": "t",
        "messages": [
            {"id": "m1", "role": "system", "content": "rules", "source": "input"},
            {"id": "m2", "role": "user", "content": [{"type": "text", "text": "attachment://a1"}]},
            {"id": "m3", "role": "assistant", "model": "m", "tool_calls": [call], "content": [
                {"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "wait"},
            ]},
            {"id": "m4", "role": "tool", "content": "r", "tool_call_id": "c1", "function": "look"},
            {"id": "m5", "role": "assistant", "content": "done"},
        ],
        "scores": {"match": {"value": value, "answer": "done"}},
        "attachments": {"a1": "a long question"},
        "events": [{"event": "model", "tools": [{"name": "look", "description": "d", "parameters": {}, "options": 1}]}],
    }  # fmt: skip


def eval_log(folder: Path, name: str = "log.eval") -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as log:
        log.writestr("header.json", json.dumps({"version": 2, "eval": {"task": "airline", "model": "m"}}))
        for epoch, value in ((10, "I"), (2, "C")):
            log.writestr(f"samples/x_epoch_{epoch}.json", json.dumps(sample(value, epoch)))
    return path


@pytest.mark.parametrize("indent", [None, 2])
def test_a_result_file_of_tau2_is_one_conversation_for_each_simulation(tmp_path: Path, indent: int | None) -> None:
    [source] = open_sources([result_file(tmp_path, indent)])
    rows = list(source.rows())
    assert [origin.row for origin, _ in rows] == [1, 2, 3]
    assert detect([row for _, row in rows], "f").name == "tau2"
    conversation = tau2.read(rows[0][1], rows[0][0])
    assert conversation.system == "Be kind."
    assert [(turn.role, turn.text) for turn in conversation.turns] == [
        ("assistant", "Hi!"), ("user", "No data."), ("assistant", None), ("tool", "line"), ("tool", "plan"),
        ("assistant", "Restart it."), ("user", "It works."), ("assistant", "Good."), ("user", "###STOP###"),
    ]  # fmt: skip
    metadata = conversation.metadata
    assert (metadata["reward"], metadata["task_id"], metadata["trial"], metadata["domain"]) == (1.0, "7", 0, "telecom")
    assert metadata["task"] == {"id": "7", "ticket": "t"}
    assert [message["role"] for message in metadata["user_tools"]] == ["user", "tool"]
    assert metadata["message_keys"]["6"] == {"error": True}


def test_an_eval_log_is_one_conversation_for_each_sample(tmp_path: Path) -> None:
    [source] = open_sources([eval_log(tmp_path)])
    rows = list(source.rows())
    assert [row["sample"]["epoch"] for _, row in rows] == [2, 10], "numbers are sorted as numbers"
    assert detect([row for _, row in rows], "f").name == "inspect"
    conversation = inspect.read(rows[0][1], ORIGIN)
    assert conversation.system == "rules"
    question, answer, result, end = conversation.turns
    assert question.text == "a long question"
    assert (answer.text, answer.reasoning) == ("wait", "hm")
    assert answer.calls[0].arguments == {"q": "a long question"}
    assert (result.text, result.name, end.text) == ("r", "look", "done")
    assert conversation.tools == ({"name": "look", "description": "d", "parameters": {}},)
    assert (conversation.metadata["reward"], conversation.metadata["task"]) == (1.0, "airline")


def test_a_log_of_inspect_in_json_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"version": 2, "eval": {"task": "t"}, "samples": [sample(0.25)]}, indent=2))
    [source] = open_sources([path])
    [(origin, row)] = source.rows()
    assert inspect.read(row, origin).metadata["reward"] == 0.25


def test_only_rollouts_above_a_reward_are_kept_and_the_others_are_listed(tmp_path: Path) -> None:
    sources = [result_file(tmp_path, None), eval_log(tmp_path)]
    report = prepare_dataset(sources, name="good", folder=tmp_path / "out", rewards=Rewards(0.5))
    assert (report.rows_read, report.rows_kept, report.rows_left_out, report.rows_rejected) == (5, 3, 2, 0)
    rejects = [json.loads(line) for line in report.rejects_path.read_text().splitlines()]
    assert [(Path(reject["source"]).name, reject["row"], reject["reason"]) for reject in rejects] == [
        ("run.json", 2, "its reward, 0, is below 0.5"),
        ("log.eval", 2, "its reward, 0, is below 0.5"),
    ]
    assert "read as simulations of tau2, samples of Inspect logs, recognised from the rows" in report.lines()


def test_what_has_no_reward_cannot_be_chosen_by_it(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"prompt": "q", "response": "a"}))
    with pytest.raises(UserError, match="it has no reward"):
        prepare_dataset(path, name="x", folder=tmp_path / "out", rewards=Rewards(0.5))


def test_rollouts_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="the simulation has no messages"):
        tau2.read({"simulation": {"messages": [], "reward_info": None}}, ORIGIN)
    with pytest.raises(Unusable, match="it ended with an error"):
        inspect.read({"sample": {"messages": [], "epoch": 1, "error": {"message": "x"}}}, ORIGIN)
    broken = sample("C")
    broken["attachments"] = {}
    with pytest.raises(Unusable, match=r"message 2 .*an attachment that the log does not have"):
        inspect.read({"sample": broken}, ORIGIN)
    damaged = tmp_path / "damaged.eval"
    with zipfile.ZipFile(damaged, "w") as log:
        log.writestr("samples/x_epoch_1.json", '{"id": ')
    with pytest.raises(UserError, match=r"samples/x_epoch_1.json: not JSON"):
        list(open_sources([damaged])[0].rows())


def test_a_file_that_is_no_log_of_inspect_is_told_as_such(tmp_path: Path) -> None:
    text, cut, other = (tmp_path / name for name in ("text.eval", "cut.eval", "other.zip"))
    text.write_text("hello")
    with zipfile.ZipFile(other, "w") as packed:
        packed.writestr("data.json", "[]")
    whole = tmp_path / "whole.eval"
    with zipfile.ZipFile(whole, "w") as log:
        log.writestr("samples/x_epoch_1.json", json.dumps(sample("C")))
    cut.write_bytes(whole.read_bytes()[:-20])
    for path, message in (
        (text, "is no log of Inspect, which is a zip file, or it is cut off"),
        (cut, "is no log of Inspect, which is a zip file, or it is cut off"),
        (other, "is a zip file, but no log of Inspect"),
    ):
        with pytest.raises(UserError, match=message) as error:
            list(open_sources([path])[0].rows())
        assert error.value.where == str(path)
        assert error.value.fix


def test_a_score_that_there_is_none_of_does_not_refuse_the_log(tmp_path: Path) -> None:
    # Inspect writes NaN for what was not scored.
    log = tmp_path / "unscored.eval"
    with zipfile.ZipFile(log, "w") as file:
        file.writestr("samples/x_epoch_1.json", json.dumps(sample(float("nan"))))
    [(origin, row)] = open_sources([log])[0].rows()
    read = inspect.read(row, origin)
    assert read.turns
    assert "reward" not in read.metadata


@pytest.mark.parametrize("content", [[], None, 3])
def test_a_result_file_without_simulations_says_so(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "run.json"
    for indent in (None, 1):
        path.write_text(json.dumps({"info": {}, "tasks": [], "simulations": content}, indent=indent))
        with pytest.raises(UserError, match="has no simulations: ") as error:
            list(open_sources([path])[0].rows())
        assert error.value.where == str(path)
