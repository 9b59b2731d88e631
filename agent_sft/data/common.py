"""Rows of nothing but common turns, as most are, understood in one pass.

Each function here is a shortcut past the general readers and writers. It gives exactly what they would, or None where
a row holds anything that they have to look at: another kind of turn, a mark, a fault. A test holds them equal.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import orjson

from agent_sft.data.checks import OTHER_METHODS
from agent_sft.data.dialects import Dialect
from agent_sft.data.hermes import CLOSE, OPEN, call_text, is_call
from agent_sft.data.jsontext import gather_texts, has_texts, loads
from agent_sft.data.known import remember
from agent_sft.data.reading import ROW_KEY
from agent_sft.data.rows import ROW_KEYS, read_tools
from agent_sft.data.tools import tools_text
from agent_sft.data.transforms.chat import json_text
from agent_sft.data.turns import GPT, HUMAN, OBSERVATION, Unusable

RESULT = "<tool_response>"
MARKS = ("<think>", OPEN, CLOSE, "<|")
"""What gives words of the agent another meaning, or is worth a note."""


class _Said(msgspec.Struct, forbid_unknown_fields=True, gc=False, rename={"role": "from"}):
    """A common turn."""

    role: Literal["human", "gpt"]
    value: str


class _Call(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A call whose arguments every writer of JSON writes alike."""

    name: str
    arguments: dict[str, str | int | bool | None]


_ROW = msgspec.json.Decoder(dict[str, list[_Said] | dict[str, Any] | str | int | float | bool | None])
_CALL = msgspec.json.Decoder(_Call)


def chat_of_sharegpt(row: Any) -> dict[str, Any] | None:
    """Return `to_row(sharegpt.read(row, ...))` for a row of `human` and `gpt` turns, with calls in their texts."""
    if type(row) is not dict or ROW_KEY not in row:
        return None
    try:
        turns = msgspec.convert(row[ROW_KEY], list[_Said])
        return _chat(turns, {key: value for key, value in row.items() if key != ROW_KEY})
    except (KeyError, TypeError, ValueError):
        return None


def chat_of_sharegpt_text(data: bytes) -> dict[str, Any] | None:
    """Return `chat_of_sharegpt(loads_all(data))`, without a dictionary for each turn; None also where that raises."""
    try:
        further = _ROW.decode(data)
        turns = further.pop(ROW_KEY)
        if not isinstance(turns, list):
            return None
        texts = [turn.value for turn in turns]
        keys = 1 + gather_texts(further, texts)
        # Beside its text, a turn has two keys and a role.
        return _chat(turns, further) if has_texts(data, keys + 3 * len(turns), texts) else None
    except (KeyError, OverflowError, TypeError, ValueError):
        return None


def _chat(turns: list[_Said], further: dict[str, Any]) -> dict[str, Any] | None:
    """Return the chat row of turns and what stands beside them in their row, of which metadata is left.

    Raises:
        KeyError, ValueError: a call is none.
    """
    if not turns or any(further.get(column) is not None for column in OTHER_METHODS):
        return None
    system, tools = further.pop("system", None), further.pop("tools", None)
    if not (system is None or type(system) is str) or not (tools is None or tools == "" or tools == []):
        return None
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    add = messages.append
    characters = len(system) if system else 0
    waiting = 0  # calls of the agent's last turn that have no result yet
    for turn in turns:
        text = turn.value
        characters += len(text)
        if turn.role == HUMAN:
            if not waiting:
                add({"role": "user", "content": text})
                continue
            if RESULT in text:
                return None
            add({"role": "tool", "content": text})
            waiting -= 1
        elif "<" not in text or ((start := text.find(OPEN)) < 0 and "<think>" not in text):
            add({"role": "assistant", "content": text})
            waiting = 0
        else:
            last = len(text) - len(CLOSE)
            if start < 0 or "<think>" in text or text.find(CLOSE, start) != last or text.find(OPEN, start + 1) >= 0:
                return None
            function, length = _call(text[start + len(OPEN) : last])
            words = text[:start].removesuffix("\n")
            call = {"type": "function", "function": function}
            add({"role": "assistant", "content": words or None, "tool_calls": [call]})
            characters += len(words) - len(text) + length
            waiting = 1
    remember(messages, unpacked=True, characters=characters)
    return {"messages": messages, "metadata": further} if further else {"messages": messages}


def _call(text: str) -> tuple[dict[str, Any], int]:
    """Return the call that a JSON text is, name first, and how many characters of it are counted.

    Raises:
        ValueError: it is none, or has more than a name and arguments.
        KeyError: it has less.
    """
    try:
        call = _CALL.decode(text)
        written = orjson.dumps(call.arguments)
    except (TypeError, ValueError):  # what is in it has to be looked at, if it is a call
        pass
    else:
        # Written again, what was read exactly has the quotes that it had: beside the arguments, those of three texts.
        if call.name and "\\" not in text and text.count('"') == written.count(b'"') + 6:
            length = len(written) if written.isascii() else len(written.decode())
            return {"name": call.name, "arguments": call.arguments}, len(call.name) + length
    value = loads(text.strip())
    if not is_call(value):
        raise ValueError("no call")
    name, arguments = value["name"], value["arguments"]
    return {"name": name, "arguments": arguments}, len(name) + len(json_text(arguments))


def example_of_chat(row: Any, dialect: Dialect) -> dict[str, Any] | None:
    """Return the one row that `carry(openai.read(row, ...), dialect)` makes, where it changes and notes nothing.

    Such a conversation alternates between prompts and answers, has one call at most in an answer, and its result
    right after it.
    """
    if not dialect.hermes_text or type(row) is not dict or not ROW_KEYS.issuperset(row):
        return None
    messages = row.get("messages")
    if type(messages) is not list:
        return None
    system = ""
    turns: list[dict[str, str]] = []
    add = turns.append
    is_answer = True  # of the turn before
    is_called = False
    try:
        for message in messages:
            role, text = message["role"], message["content"]
            if role == "assistant":
                if is_answer:
                    return None
                if text is not None and (type(text) is not str or ("<" in text and any(map(text.__contains__, MARKS)))):
                    return None
                if len(message) == 2:
                    if not text or text.isspace():
                        return None
                elif len(message) == 3:
                    [call] = message["tool_calls"]
                    function = call["function"]
                    name, arguments = function["name"], function["arguments"]
                    if (
                        len(call) != 2
                        or len(function) != 2
                        or call["type"] != "function"
                        or type(name) is not str
                        or not name
                        or type(arguments) is not dict
                    ):
                        return None
                    is_called = True
                    written = call_text(name, arguments)
                    if "<|" in written:
                        return None
                    text = f"{text}\n{OPEN}\n{written}\n{CLOSE}" if text else f"{OPEN}\n{written}\n{CLOSE}"
                else:
                    return None
                is_answer = True
                add({"from": GPT, "value": text})
                continue
            if len(message) != 2 or type(text) is not str or "<|" in text or not is_answer:
                return None
            if role == "user":
                if is_called or "{{idx}}" in text:
                    return None
                add({"from": HUMAN, "value": text})
            elif role == "tool":
                if not is_called:
                    return None
                add({"from": OBSERVATION, "value": text})
                is_called = False
            elif role == "system" and not turns and not system:
                system = text
                continue
            else:
                return None
            is_answer = False
        if not is_answer or not turns:
            return None
        tools = [{"type": "function", "function": dict(tool)} for tool in read_tools(row.get("tools"))[0]]
        return {"conversations": turns, "system": system, "tools": tools_text(tools, dialect) if tools else ""}
    except (KeyError, TypeError, ValueError, Unusable):
        return None
