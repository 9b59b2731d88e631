"""Rows of a prompt and a response, under the names that are common for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_sft.data.conversation import Conversation, Origin
from agent_sft.data.formats import openai
from agent_sft.data.reading import describe
from agent_sft.data.turns import Unusable

NAME = "prompt_response"
PAIRS = (
    ("prompt", "response"),
    ("prompt", "completion"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("input", "output"),
)


def recognise(row: Mapping[str, Any]) -> bool:
    """Tell whether a row is one: a prompt and a response, each a text or a list of messages."""
    pair = _pair(row)
    return pair is not None and all(isinstance(row[key], str | list) for key in pair)


def read(row: Any, origin: Origin) -> Conversation:
    """Read a row; `system`, `history` (pairs of texts) and the `input` beside an instruction are part of it.

    Raises:
        Unusable: naming what cannot be used.
    """
    if not isinstance(row, Mapping):
        raise Unusable(f"the row is {describe(row)}, not an object")
    pair = _pair(row)
    if pair is None:
        raise Unusable(f"the row has none of the pairs {', '.join(f'{a}/{b}' for a, b in PAIRS)}")
    used = {*pair, "system", "history"}
    prompt = row[pair[0]]
    if pair[0] == "instruction" and row.get("input"):
        prompt = f"{_text(prompt, pair[0])}\n{_text(row['input'], 'input')}"
        used.add("input")
    messages: list[Any] = []
    if row.get("system"):
        messages.append({"role": "system", "content": _text(row["system"], "system")})
    for past in row.get("history") or ():
        if not isinstance(past, list) or len(past) != 2:
            raise Unusable("'history' is no list of pairs")
        messages += [{"role": role, "content": text} for role, text in zip(("user", "assistant"), past, strict=True)]
    messages += _messages(prompt, "user", pair[0]) + _messages(row[pair[1]], "assistant", pair[1])
    further = {key: value for key, value in row.items() if key not in used}
    return openai.read({**further, "messages": messages}, origin)


def _pair(row: Mapping[str, Any]) -> tuple[str, str] | None:
    return next((pair for pair in PAIRS if pair[0] in row and pair[1] in row), None)


def _messages(value: Any, role: str, key: str) -> list[Any]:
    return value if isinstance(value, list) else [{"role": role, "content": _text(value, key)}]


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise Unusable(f"'{key}' is {describe(value)}, not a text")
    return value
