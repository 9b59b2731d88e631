"""What an assistant says as one text in Hermes style: reasoning, words, calls; read, and written as templates do.

The text is `<think>…</think>` words `<tool_call>{"name": …, "arguments": …}</tool_call>`, each part optional. What is
written is what the chat templates of Qwen render for the same turn, to the byte.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from agent_sft.data.conversation import ToolCall, Turn
from agent_sft.data.jsontext import dumps, excerpt, loads
from agent_sft.data.turns import Unusable

REASONING = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
OPEN = "<tool_call>"
CLOSE = "</tool_call>"
SIMPLE = frozenset((str, int, bool, type(None)))
"""Types of values that are written alike by every writer of JSON, separators apart."""
LINE_END, JOINT = b",\n  ", b", "
"""Between two values of an indented object, and in one line."""
RESULT = re.compile(r"\s*<tool_response>\n?(.*?)\n?</tool_response>\s*", re.DOTALL)


def split_reasoning(text: str) -> tuple[str | None, str]:
    """Return the reasoning that a text begins with, without its marks, and the rest."""
    found = REASONING.match(text) if "<think>" in text else None
    return (found[1].strip("\n"), text[found.end() :]) if found else (None, text)


def read_answer(text: str, label: str) -> tuple[str | None, str | None, tuple[ToolCall, ...], list[dict[str, Any]]]:
    """Return the reasoning, the words and the calls of an assistant's text, and what else the calls held.

    Raises:
        Unusable: a call is cut off or no call, or words stand after one.
    """
    reasoning, rest = split_reasoning(text)
    if OPEN not in rest:
        return reasoning, rest, (), []
    words, *blocks = rest.split(OPEN)
    calls: list[ToolCall] = []
    extras: list[dict[str, Any]] = []
    for number, block in enumerate(blocks):
        body, closed, after = block.partition(CLOSE)
        if not closed:
            raise Unusable(f"{label}: a {OPEN} that is not closed")
        if after.strip():
            where = "words after the call" if number == len(blocks) - 1 else "words between two calls"
            raise Unusable(f"{label}: {where}, which have no place in a chat template: {excerpt(after.strip())}")
        found, further = read_calls(body, label)
        calls += found
        extras += further
    return reasoning, words.removesuffix("\n") or None, tuple(calls), extras


def read_calls(text: str, label: str) -> tuple[list[ToolCall], list[dict[str, Any]]]:
    """Return the call, or the list of calls, that a JSON text holds, and what else each of them held.

    Raises:
        Unusable: it is something else.
    """
    try:
        value = loads(text.strip())
    except ValueError as error:
        raise Unusable(f"{label}: the call is {error}") from error
    if is_call(value):
        return [ToolCall(name=value["name"], arguments=value["arguments"])], [{}]
    given = value if isinstance(value, list) else [value]
    if not given:
        raise Unusable(f"{label}: an empty list of calls")
    read = [read_call(call, label) for call in given]
    return [call for call, _ in read], [further for _, further in read]


def is_call(value: Any) -> bool:
    """Tell whether a value is a name and arguments, as they should be, and nothing else."""
    if type(value) is not dict or len(value) != 2:
        return False
    name = value.get("name")
    return type(name) is str and name != "" and type(value.get("arguments")) is dict


def read_call(call: Any, label: str) -> tuple[ToolCall, dict[str, Any]]:
    """Return the call that an object describes, and what else the object held.

    Raises:
        Unusable: it has no name, or no arguments that are an object.
    """
    if isinstance(call, dict) and isinstance(call.get("function"), dict):
        call = {**{key: value for key, value in call.items() if key not in ("function", "type")}, **call["function"]}
    if not isinstance(call, dict) or not isinstance(call.get("name"), str) or not call["name"]:
        raise Unusable(f"{label}: a call without a name: {excerpt(dumps(call))}")
    name = call["name"]
    if "arguments" not in call:
        raise Unusable(f"{label}: the call of '{name}' has no arguments")
    arguments = call["arguments"]
    if isinstance(arguments, str):
        try:
            arguments = loads(arguments) if arguments.strip() else {}
        except ValueError as error:
            raise Unusable(f"{label}: the arguments of '{name}' are {error}") from error
    if not isinstance(arguments, dict):
        raise Unusable(f"{label}: the arguments of '{name}' are no object: {excerpt(dumps(arguments))}")
    given = call.get("id")
    known = ("name", "arguments", "id") if isinstance(given, str) else ("name", "arguments")
    extras = {key: value for key, value in call.items() if key not in known and value is not None}
    return ToolCall(name=name, arguments=arguments, id=given if isinstance(given, str) else None), extras


def read_results(text: str) -> list[str]:
    """Return the results inside `<tool_response>` marks; the whole text where there are none around all of it."""
    results: list[str] = []
    position = 0
    while found := RESULT.match(text, position):
        results.append(found[1])
        position = found.end()
    return results if results and position == len(text) else [text]


def write_answer(turn: Turn) -> str:
    """Return an assistant's turn as one text."""
    text = turn.text or ""
    calls = "\n".join(f"{OPEN}\n{call}\n{CLOSE}" for call in write_calls(turn.calls))
    joint = "\n" if text and calls else ""
    return write_reasoning(turn) + text + joint + calls


def write_reasoning(turn: Turn) -> str:
    """Return a turn's reasoning in its marks, an empty text if it has none."""
    if turn.reasoning is None:
        return ""
    reasoning = turn.reasoning.strip("\n")
    return f"<think>\n{reasoning}\n</think>\n\n"


def write_calls(calls: Sequence[ToolCall]) -> list[str]:
    """Return each call as JSON."""
    return [call_text(call.name, call.arguments) for call in calls]


def call_text(name: str, arguments: Any) -> str:
    """Return a call as JSON, as `dumps` writes it."""
    if type(arguments) is dict and SIMPLE.issuperset(map(type, arguments.values())):
        try:
            return f'{{"name": {orjson.dumps(name).decode()}, "arguments": {{{flat_text(arguments)}}}}}'
        except TypeError:  # half a character, a number beyond 64 bits, or a key that is no text
            pass
    return dumps({"name": name, "arguments": arguments})


def flat_text(value: dict[str, Any]) -> str:
    """Return what stands between the brackets of an object of `SIMPLE` values, as `dumps` writes it.

    Raises:
        TypeError: it has to be written by `dumps`.
    """
    # Each line of it is a key with its value: no text has a line break in it that is not escaped.
    lines = orjson.dumps(value, option=orjson.OPT_INDENT_2)[4:-2]
    return (lines.replace(LINE_END, JOINT) if len(value) > 1 else lines).decode()
