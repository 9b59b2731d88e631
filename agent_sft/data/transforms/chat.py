"""Reading and changing rows in the names of the OpenAI chat format, calls in either of their two carriers.

A call stands in `tool_calls`, or as text: a <tool_call> block in an assistant's words. Both are read as one thing,
and a changed call is written where it stood.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from operator import is_
from typing import Any

import msgspec
import orjson

from agent_sft.data.known import are_checked, remember
from agent_sft.data.reading import describe
from agent_sft.data.transforms.contract import Row
from agent_sft.data.turns import Unusable
from agent_sft.errors import UserError

Message = dict[str, Any]

OPENED, CLOSED = "<tool_call>", "</tool_call>"

_DECODER = json.JSONDecoder()


class Call(msgspec.Struct, frozen=True):
    """A call as it stands in a row, before anything was made of it."""

    value: dict[str, Any]
    """`name` and `arguments`, and whatever else stands beside them."""
    turn: int
    """The message's place in the row, from 1."""

    @property
    def name(self) -> str:
        """The name of the tool called.

        Raises:
            Unusable: there is none.
        """
        name = self.value.get("name")
        if not isinstance(name, str) or not name:
            raise Unusable(f"turn {self.turn}: a call without a name: {shown(self.value)}")
        return name


def messages_of(row: Row) -> list[Message]:
    """Return the messages of a row.

    Raises:
        UserError: the row is no chat at all: a transform that makes one has to come first.
        Unusable: what it calls `messages` are none.
    """
    if "messages" not in row:
        keys = ", ".join(f"'{key}'" for key in row if key != "origin") or "none"
        raise UserError(f"the row has no 'messages' (its keys: {keys})", fix="make chats of raw rows: jsonl_to_chat")
    messages = row["messages"]
    if not isinstance(messages, list):
        raise Unusable(f"'messages' is {describe(messages)}, not an array")
    if are_checked(messages):
        checked: list[Message] = messages
        return checked
    for message in messages:
        if type(message) is not dict or type(message.get("role")) is not str:
            break
        content = message.get("content")
        if content is not None and type(content) is not str:
            break
    else:
        remember(messages)
        return messages
    raise Unusable(_fault(messages))


def _fault(messages: list[Any]) -> str:
    """Return what is wrong with the first message that cannot be used."""
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return f"turn {number} is no message with a role"
        content = message.get("content")
        if content is not None and not isinstance(content, str):
            return f"turn {number} ({message['role']}): its content is {describe(content)}, not a text"
    raise AssertionError(messages)


def with_messages(row: Row, messages: list[Message]) -> Row:
    """Return the row with other messages; the row itself where they are the same."""
    same = row["messages"]
    if same is messages or (len(same) == len(messages) and all(map(is_, messages, same))):
        return row
    return {**row, "messages": messages}


def change_all_calls(messages: list[Message], change: Callable[[Call], dict[str, Any]]) -> list[Message]:
    """Return the messages with each call changed; those without a call, or with none changed, as they are."""
    changed = messages
    for index, message in enumerate(messages):
        if message["role"] == "assistant" and ("tool_calls" in message or OPENED in (message.get("content") or "")):
            new = change_calls(message, index + 1, change)
            if new is not message:
                changed = list(messages) if changed is messages else changed
                changed[index] = new
    return changed


def change_calls(message: Message, turn: int, change: Callable[[Call], dict[str, Any]]) -> Message:
    """Return an assistant's message with each of its calls changed; itself where none is.

    Raises:
        Unusable: a call cannot be read.
    """
    changed = message
    if message.get("tool_calls"):
        given = message["tool_calls"]
        calls = [_change_entry(entry, turn, change) for entry in given]
        if any(new is not old for new, old in zip(calls, given, strict=True)):
            changed = {**changed, "tool_calls": calls}
    if message["role"] == "assistant" and OPENED in (message.get("content") or ""):
        text = _change_text(message["content"], turn, change)
        if text != message["content"]:
            changed = {**changed, "content": text}
    return changed


def calls_in(message: Message, turn: int) -> list[Call]:
    """Return the calls of a message in order. Raises what `change_calls` raises."""
    found: list[Call] = []

    def remember(call: Call) -> dict[str, Any]:
        found.append(call)
        return call.value

    change_calls(message, turn, remember)
    return found


def pieces(text: str, turn: int) -> Iterator[tuple[str, list[Any] | None]]:
    """Yield the stretches of a text in order, each with the calls in it: None for words, else those of a block.

    A tag within a call's own JSON is part of the call.

    Raises:
        Unusable: a block is not JSON, or has no end.
    """
    position = 0
    while (opened := text.find(OPENED, position)) >= 0:
        if opened > position:
            yield text[position:opened], None
        values, position = _block(text, opened + len(OPENED), turn)
        yield text[opened:position], values
    if position < len(text):
        yield text[position:], None


def hermes(calls: list[Any]) -> str:
    """Return calls as the Hermes family of templates writes them: one <tool_call> block."""
    value = calls[0] if len(calls) == 1 else calls
    return f"{OPENED}\n{json.dumps(value, ensure_ascii=False)}\n{CLOSED}"


def shown(value: Any, length: int = 60) -> str:
    """Return a value as reasons show it: JSON, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= length else f"{text[:length]}…"


def json_text(value: Any) -> str:
    """Return a JSON value as compact text, for counting and comparing."""
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # half a character, or a number beyond 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _block(text: str, start: int, turn: int) -> tuple[list[Any], int]:
    values: list[Any] = []
    position = start
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        if text.startswith(CLOSED, position):
            break
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise Unusable(f"turn {turn}: not a call as JSON, near '{shown(text[position:], 40)}'") from error
        values += value if isinstance(value, list) else [value]
    if not values:
        raise Unusable(f"turn {turn}: no call in a {OPENED}")
    return values, position + len(CLOSED)


def _change_text(text: str, turn: int, change: Callable[[Call], dict[str, Any]]) -> str:
    """Return the text with its calls changed; what is not changed stays as it was written."""
    parts = []
    for part, values in pieces(text, turn):
        if values is not None:
            calls = [_call(value, turn) for value in values]
            changed = [change(call) for call in calls]
            if any(new is not call.value for new, call in zip(changed, calls, strict=True)):
                part = hermes(changed)
        parts.append(part)
    return "".join(parts)


def _change_entry(entry: Any, turn: int, change: Callable[[Call], dict[str, Any]]) -> Any:
    """Change one entry of `tool_calls`: the call is its `function`, or itself where it has none."""
    function = entry.get("function", entry) if isinstance(entry, dict) else entry
    call = _call(function, turn)
    changed = change(call)
    if changed is call.value:
        return entry
    return {**entry, "function": changed} if "function" in entry else changed


def _call(value: Any, turn: int) -> Call:
    if not isinstance(value, dict):
        raise Unusable(f"turn {turn}: a call must be an object with a name and arguments, not {shown(value)}")
    return Call(value, turn)
