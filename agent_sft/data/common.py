"""Rows of nothing but common turns, as most are, understood in one pass.

Each function here is a shortcut past the general readers and writers. It gives exactly what they would, or None where
a row holds anything that they have to look at: another kind of turn, a mark, a fault. A test holds them equal.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

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

ANSWER = "assistant"
RESULT = "<tool_response>"
MARKS = ("<think>", OPEN, CLOSE, "<|")
"""What gives words of the agent another meaning, or is worth a note."""


class _Said(msgspec.Struct, forbid_unknown_fields=True, gc=False, rename={"role": "from"}):
    """A common turn."""

    role: Literal["human", "gpt"]
    value: str


class _Call(TypedDict):
    """A call whose arguments every writer of JSON writes alike."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    arguments: dict[str, str | int | bool | None]


_ROW = msgspec.json.Decoder(dict[str, list[_Said] | dict[str, Any] | str | int | float | bool | None])
_CALLS = msgspec.json.Decoder(list[_Call])
_ENCODER = msgspec.json.Encoder()
_AROUND = len(',{"name":"","arguments":}')
"""Characters of compact JSON that are not counted of a call: with the comma or the bracket before it."""
_BEFORE, _BETWEEN, _BEHIND = f"{OPEN}\n", "\n,\n", f"\n{CLOSE}"
"""What templates write before and behind a call; and what stands between two here."""
_END = len(_BEHIND)


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
    characters = len(text) + (len(system) if system else 0)
    is_common = "|" not in text and not (system and "|" in system)
    roles = [turn.role for turn in turns]
    messages: list[dict[str, Any]] = [
        {"role": "user" if role == HUMAN else "assistant", "content": said}
        for role, said in zip(roles, texts, strict=True)
    ]
    calls: list[dict[str, Any]] = []
    inside: list[str] = []  # what stands between the marks of each
    blocks: list[str] = []
    for place in [place for place, said in enumerate(texts) if "<" in said]:
        if roles[place] == HUMAN:
            continue
        said = texts[place]
        words, opened, written = said.partition(_BEFORE)
        if opened and written.endswith(_BEHIND) and "<" not in words and "<" not in (written := written[:-_END]):
            block = said[len(words) :] if words else said
        else:
            start, last = said.find(OPEN), len(said) - len(CLOSE)
            if start < 0 and "<think>" not in said and CLOSE not in said:
                continue
            if start < 0 or "<think>" in said or said.find(CLOSE) != last or said.find(OPEN, start + 1) >= 0:
                return None
            words, block = said[:start], said[start:]
            is_even = block.startswith(_BEFORE) and block.endswith(_BEHIND)
            written = block[len(_BEFORE) : -_END] if is_even else f" {block[len(OPEN) : -len(CLOSE)]}"
        words = words.removesuffix("\n")
        call = {"type": "function"}
        calls.append(call)
        inside.append(written)
        blocks.append(block)
        message = messages[place]
        message["content"] = words or None
        message["tool_calls"] = [call]
        characters += len(words) - len(said)
        if place + 1 < len(roles) and roles[place + 1] == HUMAN:
            if RESULT in texts[place + 1]:
                return None
            messages[place + 1]["role"] = "tool"
    if system:
        messages.insert(0, {"role": "system", "content": system})
    common = Common({})
    characters += _read_calls(calls, inside, blocks, common)
    remember(messages, unpacked=True, characters=characters, common=common if is_common else None)
    return {"messages": messages, "metadata": further} if further else {"messages": messages}


def _read_calls(calls: list[dict[str, Any]], inside: list[str], blocks: list[str], common: Common) -> int:
    """Put the name and the arguments into calls; return how many characters are counted of them.

    Args:
        calls: in which they are still missing.
        inside: what stands between the marks of each, without the line breaks that templates write there; with a
            space before it where there are no such.
        blocks: the same with the marks.
        common: takes the blocks that are written as templates write them.

    Raises:
        ValueError: one is no call, or has more than a name and arguments.
        KeyError: it has less.
    """
    count = len(calls)
    if not count:
        return 0
    text = _BETWEEN.join(inside)
    found, compact = _decoded(text, count) if "\\" not in text else (None, "")
    if found is not None:
        for call, function in zip(calls, found, strict=True):
            call["function"] = function
        common.blocks.update(zip(map(id, calls), zip(calls, blocks, strict=True), strict=True))
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
    """Return the calls in a text without a backslash, one in each part of it, and the same as compact JSON.

    None where they are not so many, or not written as templates write them.
    """
    try:
        found = _CALLS.decode(f"[{text}]")
    except ValueError:  # what is in it has to be looked at, if it is a call
        return None, ""
    compact = _ENCODER.encode(found)
    # Line breaks are between calls alone, so that no part holds half a call, and as many parts hold one each. The same
    # brackets in a text would come out longer than they are there.
    written = msgspec.json.format(compact, indent=0).decode()[1:-1].replace("}, {", f"}}{_BETWEEN}{{")
    is_exact = len(found) == count and written == text and f"\n{text}".count('\n{"name": ') == count
    return (found, compact.decode()) if is_exact else (None, "")


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
    try:
        first = 1 if messages[0]["role"] == "system" else 0
        system = messages[0]["content"] if first else ""
        prompts, answers = messages[first::2], messages[first + 1 :: 2]
        if common is None and not (
            all(map(_is_prompt, (*messages[:first], *prompts))) and all(map(_is_answer, answers))
        ):
            return None
        # A result follows a call, and nothing else does.
        roles = [message["role"] for message in prompts]
        is_called = [len(message) > 2 for message in answers]
        if (
            [message["role"] for message in answers] != [ANSWER] * len(roles)
            or not roles
            or roles
            != [
                "user",
                *("tool" if called else "user" for called in is_called[:-1]),
            ]
        ):
            return None
        turns: list[dict[str, str]] = []
        for role, prompt, answer in zip(roles, prompts, answers, strict=True):
            asked, text = prompt["content"], answer["content"]
            if role == "tool":
                turns.append({"from": OBSERVATION, "value": asked})
            elif "{{idx}}" in asked:
                return None
            else:
                turns.append({"from": HUMAN, "value": asked})
            if len(answer) > 2:
                [call] = answer["tool_calls"]
                block = known[1] if (known := blocks.get(id(call))) is not None else _block(call)
                if block is None:
                    return None
                text = f"{text}\n{block}" if text else block
            elif not text or text.isspace():
                return None
            turns.append({"from": GPT, "value": text})
        tools = [{"type": "function", "function": dict(tool)} for tool in read_tools(row.get("tools"))[0]]
        return {"conversations": turns, "system": system, "tools": tools_text(tools, dialect) if tools else ""}
    except (IndexError, KeyError, TypeError, ValueError, Unusable):
        return None


def _is_prompt(message: Any) -> bool:
    """Tell whether a message has a text without a mark and nothing else beside its role."""
    text = message["content"]
    return len(message) == 2 and type(text) is str and "<|" not in text


def _is_answer(message: Any) -> bool:
    """Tell whether a message has a text without a mark, or none, and one key more at most beside its role."""
    text = message["content"]
    return len(message) <= 3 and (text is None or (type(text) is str and not _has_mark(text)))


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
