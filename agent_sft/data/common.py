"""Rows of nothing but common turns, as most are, understood in one pass.

Each function here is a shortcut past the general readers and writers. It gives exactly what they would, or None where
a row holds anything that they have to look at: another kind of turn, a mark, a fault. A test holds them equal.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from agent_sft.data.checks import OTHER_METHODS
from agent_sft.data.dialects import Dialect
from agent_sft.data.hermes import CLOSE, OPEN, call_text, is_call
from agent_sft.data.jsontext import gather_texts, has_texts, loads
from agent_sft.data.known import Common, common_of, remember
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
_CALLS = msgspec.json.Decoder(list[_Call])
_ENCODER = msgspec.json.Encoder()
_AROUND = len(',{"name":"","arguments":}')
"""Characters of compact JSON that are not counted of a call: with the comma or the bracket before it."""


def chat_of_sharegpt(row: Any) -> dict[str, Any] | None:
    """Return `to_row(sharegpt.read(row, ...))` for a row of `human` and `gpt` turns, with calls in their texts."""
    if type(row) is not dict or ROW_KEY not in row:
        return None
    try:
        turns = msgspec.convert(row[ROW_KEY], list[_Said])
        texts = [turn.value for turn in turns]
        return _chat(turns, texts, "".join(texts), {key: value for key, value in row.items() if key != ROW_KEY})
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
        others: list[str] = []
        keys = 1 + gather_texts(further, others)
        text = "".join(texts)
        # A turn has two keys, a role and its text.
        count = keys + len(others) + 4 * len(turns)
        return _chat(turns, texts, text, further) if has_texts(data, count, "".join((text, *others))) else None
    except (KeyError, OverflowError, TypeError, ValueError):
        return None


def _chat(turns: list[_Said], texts: list[str], text: str, further: dict[str, Any]) -> dict[str, Any] | None:
    """Return the chat row of turns, their texts, and what stands beside them in their row, of which metadata is left.

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
    characters = len(text) + (len(system) if system else 0)
    is_common = "|" not in text and not (system and "|" in system)
    calls: list[dict[str, Any]] = []
    inside: list[str] = []  # what stands between the marks of each
    blocks: list[str] = []
    waiting = False  # whether a call of the agent's last turn has no result yet
    for turn in turns:
        said = turn.value
        if turn.role == HUMAN:
            if not waiting:
                add({"role": "user", "content": said})
                continue
            if RESULT in said:
                return None
            add({"role": "tool", "content": said})
            waiting = False
            continue
        if "<" not in said or ((start := said.find(OPEN)) < 0 and "<think>" not in said and CLOSE not in said):
            add({"role": "assistant", "content": said})
            waiting = False
            continue
        last = len(said) - len(CLOSE)
        if start < 0 or "<think>" in said or said.find(CLOSE) != last or said.find(OPEN, start + 1) >= 0:
            return None
        words = said[:start].removesuffix("\n")
        call = {"type": "function"}
        calls.append(call)
        inside.append(said[start + len(OPEN) : last])
        blocks.append(said[start:] if start else said)
        add({"role": "assistant", "content": words or None, "tool_calls": [call]})
        characters += len(words) - len(said)
        waiting = True
    common = Common({})
    characters += _read_calls(calls, inside, blocks, common)
    remember(messages, unpacked=True, characters=characters, common=common if is_common else None)
    return {"messages": messages, "metadata": further} if further else {"messages": messages}


def _read_calls(calls: list[dict[str, Any]], inside: list[str], blocks: list[str], common: Common) -> int:
    """Put the name and the arguments into calls; return how many characters are counted of them.

    Args:
        calls: in which they are still missing.
        inside: what stands between the marks of each.
        blocks: the same with the marks.
        common: takes the blocks that are written as templates write them.

    Raises:
        ValueError: one is no call, or has more than a name and arguments.
        KeyError: it has less.
    """
    count = len(calls)
    if not count:
        return 0
    text = ",".join(inside)
    found, compact = _decoded(text, count) if "\\" not in text else (None, "")
    if found is not None:
        for call, read, block in zip(calls, found, blocks, strict=True):
            call["function"] = {"name": read.name, "arguments": read.arguments}
            common.blocks[id(call)] = call, block
        return len(compact) - count * _AROUND - 1
    if count > 1:
        return sum(
            _read_calls([call], [one], [block], common) for call, one, block in zip(calls, inside, blocks, strict=True)
        )
    value = loads(inside[0].strip())
    if not is_call(value):
        raise ValueError("no call")
    name, arguments = value["name"], value["arguments"]
    calls[0]["function"] = {"name": name, "arguments": arguments}
    return len(name) + len(json_text(arguments))


def _decoded(text: str, count: int) -> tuple[list[_Call] | None, str]:
    """Return the calls in a text without a backslash, with a comma between two, and the same as compact JSON.

    None where they are not so many, or not written as templates write them.
    """
    try:
        found = _CALLS.decode(f"[{text}]")
        compact = _ENCODER.encode(found).decode()
    except ValueError:  # what is in it has to be looked at, if it is a call
        return None, ""
    # No text in it has a quote. A quote before a colon ends a key, one after a comma begins one, and brackets around a
    # comma are two calls', unless a text begins, ends or goes on so: then there are more of them than expected.
    written = compact[1:-1].replace('":', '": ').replace(',"', ', "').replace("},{", "}\n,\n{")
    more = sum([2 * len(call.arguments) + (2 if call.arguments else 3) for call in found]) + 2 * (count - 1)
    exact = len(found) == count and len(written) == len(compact) - 2 + more and f"\n{written}\n" == text
    return (found, compact) if exact and all(call.name for call in found) else (None, "")


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
    common = common_of(messages)
    blocks = common.blocks if common is not None else {}
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
                is_answer = True
                if common is None and text is not None and (type(text) is not str or _has_mark(text)):
                    return None
                if len(message) == 2:
                    if not text or text.isspace():
                        return None
                    add({"from": GPT, "value": text})
                    continue
                [call] = message["tool_calls"]
                if (known := blocks.get(id(call))) is not None:
                    block = known[1]
                elif len(message) > 3 or (block := _block(call)) is None:  # type: ignore[assignment]
                    return None
                add({"from": GPT, "value": f"{text}\n{block}" if text else block})
                is_called = True
                continue
            if not is_answer or (common is None and (len(message) != 2 or type(text) is not str or "<|" in text)):
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


def _has_mark(text: str) -> bool:
    return "<" in text and any(map(text.__contains__, MARKS))


def _block(call: Any) -> str | None:
    """Return what a template writes for a call; None where it is no common one.

    Raises:
        KeyError, TypeError: it is none.
    """
    function = call["function"]
    name, arguments = function["name"], function["arguments"]
    if len(call) != 2 or len(function) != 2 or call["type"] != "function" or type(name) is not str or not name:
        return None
    if type(arguments) is not dict or "<|" in (written := call_text(name, arguments)):
        return None
    return f"{OPEN}\n{written}\n{CLOSE}"
