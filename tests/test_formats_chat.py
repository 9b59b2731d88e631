"""ShareGPT, OpenAI and prompt/response rows, each read into the one form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent_sft.data.conversation import Origin, ToolCall
from agent_sft.data.formats import FORMATS, detect, format_named, openai, prompt_response, sharegpt
from agent_sft.data.reading import read_rows
from agent_sft.data.rows import from_row, to_row
from agent_sft.data.turns import Unusable
from agent_sft.errors import UserError

ORIGIN = Origin(file="f", row=1)
CALL = '{"name": "look", "arguments": {"id": "é"}}'


def turn(role: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"from": role, "value": value, **more}


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def api_call(call_id: str | None, arguments: Any = "{}", name: str = "look") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("name", ["telecom_small_24", "airline_retail_40", "telecom_syc_5pct_500_processed"])
def test_the_example_data_is_read_whole(repo: Path, name: str) -> None:
    path = repo / "examples" / "data" / f"{name}.json"
    rows = [row for _, row in read_rows(path)]
    assert detect(rows[:20], "f").name == "sharegpt"
    for row in rows:
        conversation = sharegpt.read(row, ORIGIN)
        text = json.dumps(to_row(conversation), ensure_ascii=False)
        calls = sum("<tool_call>" in turn["value"] or turn["from"] == "function_call" for turn in row["conversations"])
        assert sum(len(turn.calls) for turn in conversation.turns) == calls
        assert sum(turn.role == "tool" for turn in conversation.turns) == calls
        assert conversation.system == row["system"]
        assert not any("tool_call>" in (turn.text or "") for turn in conversation.turns)
        assert from_row(json.loads(text), ORIGIN) == conversation


def test_both_shapes_of_sharegpt_are_the_same_conversation() -> None:
    one = [
        turn("human", "q"),
        turn("function_call", f"<think>hm</think>\n{CALL}"),
        turn("observation", "1"),
        turn("gpt", "ok"),
    ]
    other = [
        turn("user", "q"),
        turn("assistant", f"<think>\nhm\n</think>\n\n<tool_call>\n{CALL}\n</tool_call>"),
        turn("human", "<tool_response>\n1\n</tool_response>"),
        turn("assistant", "ok"),
    ]  # fmt: skip
    read = [sharegpt.read({"conversations": turns}, ORIGIN).turns for turns in (one, other)]
    assert read[0] == read[1]
    assert read[0][1].calls == (ToolCall(name="look", arguments={"id": "é"}),)
    assert read[0][1].reasoning == "hm"


def test_system_column_and_turn_are_both_kept_and_loss_flags_read() -> None:
    turns = [
        turn("system", "b"),
        turn("human", "q"),
        turn("gpt", "x", loss=False, mood="m"),
        turn("gpt", "y", weight=1),
    ]
    conversation = sharegpt.read({"conversations": turns, "system": "a", "tools": '[{"name": "f"}]', "id": 4}, ORIGIN)
    assert conversation.system == "a\n\nb"
    assert [turn.supervise for turn in conversation.turns] == [None, False, True]
    assert conversation.tools == ({"name": "f"},)
    assert conversation.metadata == {"id": 4, "message_keys": {"3": {"mood": "m"}}}


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([turn("gpt", f"<tool_call>{CALL}")], "turn 1 (gpt): a <tool_call> that is not closed"),
        ([turn("gpt", f"<tool_call>{CALL}</tool_call>bye")], "turn 1 (gpt): words after the call"),
        ([turn("gpt", f"<tool_call>{CALL}</tool_call>x<tool_call>{CALL}</tool_call>")], "words between two calls"),
        ([turn("gpt", '<tool_call>{"name": "a", "name": "b", "arguments": {}}</tool_call>')], "the key 'name' twice"),
        ([turn("function_call", '{"name": "a", "arguments": {"x": NaN}}')], "JSON: it has no NaN"),
        ([turn("function_call", '{"name": "a", "arguments": "{broken"}')], "the arguments of 'a' are not JSON"),
        ([turn("wizard", "x")], "turn 1 has an unknown role, 'wizard'"),
        ([turn("human", None)], "turn 1 (human): its value is null"),
    ],
)
def test_what_sharegpt_turns_cannot_be_read_says_why(turns: list[Any], message: str) -> None:
    with pytest.raises(Unusable) as caught:
        sharegpt.read({"conversations": turns}, ORIGIN)
    assert message in str(caught.value)


def test_openai_rows_of_all_six_roles_are_read() -> None:
    row = {
        "messages": [
            said("system", "a"),
            said("developer", [{"type": "text", "text": "b"}]),
            said("user", [{"type": "text", "text": "q"}, {"type": "text", "text": "?"}]),
            said("assistant", None, tool_calls=[api_call("1", '{"x": 1}'), api_call("2", "", "pay")]),
            said("tool", "second", tool_call_id="2"),
            said("tool", "first", tool_call_id="1"),
            said("assistant", None, function_call={"name": "old", "arguments": "{}"}),
            said("function", "third", name="old"),
            said("assistant", "done", weight=0, refusal=None, annotations=[]),
        ],
        "response_format": {"type": "text"},
        "user": "u1",
    }
    conversation = openai.read(row, ORIGIN)
    assert conversation.system == "a\n\nb"
    assert [(turn.role, turn.text) for turn in conversation.turns] == [
        ("user", "q?"), ("assistant", None), ("tool", "first"), ("tool", "second"),
        ("assistant", None), ("tool", "third"), ("assistant", "done"),
    ]  # fmt: skip
    assert [call.arguments for call in conversation.turns[1].calls] == [{"x": 1}, {}]
    assert conversation.turns[-1].supervise is False
    assert conversation.metadata == {"response_format": {"type": "text"}, "user": "u1"}
    assert openai.write(conversation)["response_format"] == {"type": "text"}


def test_messages_may_stand_inside_input_and_end_with_the_user() -> None:
    row = {"input": {"messages": [said("user", "q")]}, "id": 3}
    assert openai.recognise(row)
    conversation = openai.read(row, ORIGIN)
    assert (conversation.turns[0].text, conversation.metadata) == ("q", {"id": 3})


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([said("user", "q"), said("assistant", None)], "message 2 (assistant): no content and no tool calls"),
        ([said("assistant", None, tool_calls=[api_call("1", "{broken")])], "the arguments of 'look' are not JSON"),
        ([said("assistant", None, tool_calls=[api_call("1", "[1]")])], "the arguments of 'look' are no object"),
        ([said("user", [{"type": "image_url", "image_url": {}}])], "a part of its content is no text (image_url)"),
        ([said("assistant", "", function_call={}, tool_calls=[api_call("1")])], "both 'function_call' and"),
        ([said("user", "q"), said("tool", "r", tool_call_id="1"), said("assistant", "a")], "no call before it"),
        ([
            said("assistant", None, tool_calls=[api_call("1"), api_call("2")]),
            said("tool", "r", tool_call_id="1"), said("assistant", "a"),
        ], "the call '2' (look) has no result"),
        ([
            said("assistant", None, tool_calls=[api_call("1")]),
            said("tool", "r", tool_call_id="9"), said("assistant", "a"),
        ], "answers the call '9'"),
        ([
            said("assistant", None, tool_calls=[api_call("1")]),
            said("tool", "r", tool_call_id="1"), said("tool", "r", tool_call_id="1"), said("assistant", "a"),
        ], "a second result of the call '1'"),
    ],
)  # fmt: skip
def test_what_openai_rows_cannot_be_read_says_why(messages: list[Any], message: str) -> None:
    with pytest.raises(Unusable) as caught:
        openai.read({"messages": messages}, ORIGIN)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("row", "texts", "metadata"),
    [
        ({"prompt": "q", "response": "a", "n": 1}, ["q", "a"], {"n": 1}),
        ({"instruction": "do", "input": "this", "output": "a"}, ["do\nthis", "a"], {}),
        ({"question": "q", "answer": "a", "history": [["x", "y"]]}, ["x", "y", "q", "a"], {}),
        ({"prompt": [said("user", "q")], "completion": [said("assistant", "a")]}, ["q", "a"], {}),
    ],
)
def test_prompt_and_response_rows_are_read(row: dict[str, Any], texts: list[str], metadata: dict[str, Any]) -> None:
    assert detect([row], "f").name == "prompt_response"
    conversation = prompt_response.read(row, ORIGIN)
    assert [turn.text for turn in conversation.turns] == texts
    assert conversation.metadata == metadata


def test_the_format_is_that_of_most_rows_and_an_unknown_one_is_told() -> None:
    chat = {"messages": [said("user", "q"), said("assistant", "a")]}
    assert detect([7, {"conversations": []}, chat, chat], "f").name == "openai"
    with pytest.raises(UserError, match=r"rows of no known format \(their keys: 'text'"):
        detect([{"text": "x"}], "f")
    with pytest.raises(UserError, match="did you mean 'openai'"):
        format_named("opneai")
    assert all(format_named(name).name == name for name in FORMATS)
