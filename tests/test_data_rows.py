"""Conversations as plain rows and as OpenAI chat rows: there and back without loss."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_sft.data.conversation import Conversation, Origin, ToolCall, Turn
from agent_sft.data.formats import openai
from agent_sft.data.jsontext import is_exact, loads
from agent_sft.data.rows import from_row, to_row
from agent_sft.data.turns import Unusable

ORIGIN = Origin(file="f", row=3)

TEXT = st.text(max_size=20).filter(lambda text: "<think>" not in text)
SAID = TEXT.filter(bool)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
NAME = st.text("abc_", min_size=1, max_size=5)
MAYBE = st.none() | st.booleans()


@st.composite
def answers(draw: Any) -> list[Turn]:
    """An assistant's turn and the results of its calls."""
    calls = tuple(
        ToolCall(name=draw(NAME), arguments=draw(OBJECT), id=f"call_{number}")
        for number in range(draw(st.integers(0, 3)))
    )
    text = draw(st.none() | SAID) if calls else draw(TEXT)
    answer = Turn(role="assistant", text=text, reasoning=draw(st.none() | TEXT), calls=calls, supervise=draw(MAYBE))
    return [answer, *(Turn(role="tool", text=draw(TEXT), call_id=call.id, name=draw(NAME)) for call in calls)]


@st.composite
def conversations(draw: Any) -> Conversation:
    """Conversations of every kind that can be trained on."""
    turns = [Turn(role="user", text=draw(TEXT))]
    for part in draw(st.lists(answers() | st.just([Turn(role="system", text="s")]), max_size=4)):
        turns += part
    turns.append(Turn(role="assistant", text="end"))
    return Conversation(
        turns=tuple(turns),
        origin=ORIGIN,
        system=draw(TEXT),
        tools=tuple({"name": draw(NAME), "parameters": draw(OBJECT)} for _ in range(draw(st.integers(0, 2)))),
        metadata=draw(OBJECT.filter(lambda value: not set(value) & {"message_keys", "tool_keys"})),
    )


@pytest.mark.slow
@given(conversations())
def test_a_plain_row_gives_the_same_conversation(conversation: Conversation) -> None:
    assert from_row(to_row(conversation), ORIGIN) == conversation


@pytest.mark.slow
@given(conversations())
def test_an_openai_row_gives_the_same_conversation_through_a_file_too(conversation: Conversation) -> None:
    row = openai.write(conversation)
    assert openai.read(row, ORIGIN) == conversation
    assert openai.read(json.loads(json.dumps(row)), ORIGIN) == conversation


def test_a_row_can_be_changed_without_changing_the_conversation() -> None:
    conversation = Conversation(turns=(Turn(role="user", text="q"),), origin=ORIGIN, metadata={"a": 1})
    row = to_row(conversation)
    row["messages"].append({"role": "assistant", "content": "a"})
    row["metadata"]["b"] = 2
    assert len(conversation.turns) == 1
    assert conversation.metadata == {"a": 1}


def test_unknown_keys_are_kept_in_the_metadata() -> None:
    row = {
        "id": 7,
        "metadata": {"x": 1},
        "messages": [
            {"role": "user", "content": "q", "mood": "bad", "nothing": None},
            {"role": "assistant", "content": "a", "tool_calls": [
                {"function": {"name": "f", "arguments": {}, "strict": True}, "index": 0},
            ]},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}, "cache": True}],
    }  # fmt: skip
    assert from_row(row, ORIGIN).metadata == {
        "id": 7,
        "x": 1,
        "message_keys": {"1": {"mood": "bad"}, "2": {"tool_calls": {"1": {"index": 0, "strict": True}}}},
        "tool_keys": {"1": {"cache": True}},
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (7, "the row is a number, not an object"),
        ({}, "no 'messages'"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "message 1 has an unknown role, 'wizard'"),
        ({"messages": [{"role": "user"}]}, "message 1 (user): no content"),
        ({"messages": [{"role": "assistant", "content": None}]}, "message 1 (assistant): no content and no tool calls"),
        ({"messages": [{"role": "user", "content": 3}]}, "message 1 (user): 'content' is a number, not a text"),
        ({"messages": [], "tools": {}}, "'tools' is an object, not a list"),
        ({"messages": [], "tools": [{"description": "x"}]}, "tool 1 has no name"),
    ],
)
def test_what_is_no_conversation_says_why(row: Any, message: str) -> None:
    with pytest.raises(Unusable) as caught:
        from_row(row, ORIGIN)
    assert message in str(caught.value)


@given(JSON)
def test_json_in_texts_is_read_exactly(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1, separators=(" ,", " : "))):
        assert repr(loads(text)) == repr(json.loads(text))


TWICE = (
    '{"a":1,"a":2}',
    '{"a" :1,"a":2}',
    '{"a" : 1, "b": 1, "b": 2}',
    '[{"c":1,"\\u0063":2}]',
    '{"a\\\\":1,"a\\\\":2}',
)


@pytest.mark.parametrize("text", TWICE)
def test_keys_that_stand_twice_are_found_however_they_are_spelled(text: str) -> None:
    assert not is_exact(text.encode(), json.loads(text))
    with pytest.raises(ValueError, match="twice"):
        loads(text)


def test_half_a_character_is_refused() -> None:
    with pytest.raises(ValueError, match="half a character"):
        loads('{"a": "\\ud800"}')
    assert loads('"\\ud83d\\ude42"') == "🙂"
