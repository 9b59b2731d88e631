"""A turn's own word on whether it carries loss, from any format to prepared data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent_sft.data.dialects import dialect_of
from agent_sft.data.merging import merge_turns
from agent_sft.data.preparing import prepare_dataset
from agent_sft.data.sharegpt import normalise
from agent_sft.data.turns import Unusable

QWEN = dialect_of("qwen")


def row(*turns: tuple[str, str, Any]) -> dict[str, Any]:
    made = [{"from": role, "value": text} | ({} if flag is None else {"supervise": flag}) for role, text, flag in turns]
    return {"conversations": made}


def flags(example: dict[str, Any]) -> list[Any]:
    return [turn.get("supervise") for turn in example["conversations"]]


def test_a_flag_stays_with_its_turn() -> None:
    given = row(
        ("human", "a", None), ("gpt", "b", False), ("human", "c", None), ("gpt", "d", True), ("human", "e", None)
    )
    assert flags(normalise(given, QWEN).as_row()) == [None, False, None, True]


def test_rows_without_flags_are_written_without_them() -> None:
    made = normalise(row(("human", "a", None), ("gpt", "b", None)), QWEN).as_row()
    assert all(set(turn) == {"from", "value"} for turn in made["conversations"])


def test_joined_turns_must_agree() -> None:
    same = row(("human", "a", None), ("gpt", "b", False), ("gpt", "c", False))
    assert flags(normalise(same, QWEN).as_row()) == [None, False]
    with pytest.raises(Unusable, match=r"turn 3 \(gpt\): only one of it and turn 2 \(gpt\)"):
        normalise(row(("human", "a", None), ("gpt", "b", False), ("gpt", "c", None)), QWEN)


def test_the_plain_merge_joins_no_turns_that_differ() -> None:
    turns = row(("gpt", "b", False), ("gpt", "c", None), ("gpt", "d", None))["conversations"]
    assert [turn["value"] for turn in merge_turns(turns)] == ["b", "c\nd"]


def test_a_flag_is_true_or_false() -> None:
    with pytest.raises(Unusable, match="neither true nor false"):
        normalise(row(("human", "a", None), ("gpt", "b", "maybe")), QWEN)


@pytest.mark.parametrize("template", ["qwen", "llama3"])
def test_a_weight_in_the_chat_format_is_a_flag(tmp_path: Path, template: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [call], "weight": 0},
        {"role": "tool", "tool_call_id": "1", "content": "r"},
        {"role": "assistant", "content": "b", "weight": 1},
    ]
    source = tmp_path / "chat.jsonl"
    source.write_text(json.dumps({"messages": messages}) + "\n", encoding="utf-8")
    report = prepare_dataset(source, name="d", folder=tmp_path / "data", template=template)
    assert flags(orjson.loads(report.data_path.read_bytes())) == [None, False, None, True]
