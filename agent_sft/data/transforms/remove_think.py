"""Reasoning leaves the assistant's turns, however it was written down; the rest stays as it was said."""

from __future__ import annotations

import contextlib
import re
from typing import Any, Literal

from pydantic import BaseModel

from agent_sft.data.transforms.chat import OPENED, Message, messages_of, pieces, with_messages
from agent_sft.data.transforms.contract import Outcome, Row, RowTransform, noted
from agent_sft.data.transforms.registry import register_transform
from agent_sft.data.turns import Unusable

WORDS = "think|thinking|thought|thoughts|reasoning|seed:think"
"""What models call the tag around their reasoning."""

TAG = re.compile(rf"(?i:<\s*(?P<xml>/?)\s*(?:{WORDS})\s*>)|\[(?P<square>/?)THINK\]|◁(?P<arrow>/?)think▷")
"""<think>, </think>, with spaces or capitals, [THINK] as Mistral, ◁think▷ as Kimi writes it."""

FIELDS = ("reasoning_content", "reasoning")


class Config(BaseModel, extra="forbid"):
    """Which reasoning goes."""

    turns: Literal["all", "history"] = "all"
    """`history`: only that before the last user turn, as chat templates of reasoning models leave it off."""


@register_transform("remove_think")
class RemoveThink(RowTransform):
    """Strips reasoning. A turn that was nothing else goes where the assistant speaks right before or after it."""

    name = "remove_think"
    row_by_row = True
    Config = Config

    def __init__(self, **params: object) -> None:
        self.config = Config.model_validate(params)

    def change(self, row: Row) -> Row | Outcome:
        """Return the row without reasoning."""
        changed, removed = remove_think(row, history_only=self.config.turns == "history")
        return noted(changed, *removed) if removed else changed


def remove_think(row: Row, *, history_only: bool = False) -> tuple[Row, list[str]]:
    """Return the row without reasoning, and the turns that went because they were nothing else.

    Raises:
        Unusable: where the reasoning ends cannot be told, or a turn of nothing else stands between two others'.
    """
    given = messages_of(row)
    end = len(given)
    if history_only:
        end = max((index for index, message in enumerate(given) if message["role"] == "user"), default=0)
    stripped = [
        _strip(message, turn) if message["role"] == "assistant" and turn <= end else message
        for turn, message in enumerate(given, start=1)
    ]
    kept: list[Message] = []
    notes: list[str] = []
    for index, message in enumerate(stripped):
        if message is given[index] or not _is_empty(message):
            kept.append(message)
            continue
        neighbours = [stripped[at]["role"] for at in (index - 1, index + 1) if 0 <= at < len(stripped)]
        if "assistant" not in neighbours and index != len(stripped) - 1:
            raise Unusable(f"turn {index + 1}: nothing but reasoning: without it nobody answers")
        notes.append(f"turn {index + 1} was nothing but reasoning")
    return with_messages(row, kept), notes


def strip_reasoning(text: str, turn: int = 1) -> str:
    """Return a text without its reasoning; tags inside a call's arguments are data and stay.

    A closing tag with no opening one ends reasoning that began with the turn: the prompt held the opening tag.

    Raises:
        Unusable: reasoning has no end.
    """
    if TAG.search(text) is None:
        return text
    words = _cut(text, turn) if OPENED not in text else _cut_around_calls(text, turn)
    return words.strip("\n") if words != text else text


def _cut_around_calls(text: str, turn: int) -> str:
    """Cut reasoning from the words around calls; calls that were only thought of go with it."""
    mark = next((char for char in map(chr, range(1, 9)) if char not in text), None)
    if mark is None:
        raise Unusable(f"turn {turn}: every control character is in its text")
    calls: list[str] = []
    outline = ""
    for part, values in _outer_pieces(text, turn):
        outline += part if values is None else f"{mark}{len(calls)}{mark}"
        if values is not None:
            calls.append(part)
    return re.sub(f"{mark}(\\d+){mark}", lambda found: calls[int(found[1])], _cut(outline, turn))


def _outer_pieces(text: str, turn: int) -> list[tuple[str, list[Any] | None]]:
    """Return words and calls; where reasoning quotes half a call, all up to its end is words."""
    try:
        return list(pieces(text, turn))
    except Unusable:
        for tag in filter(_closes, TAG.finditer(text)):
            with contextlib.suppress(Unusable):
                return [(text[: tag.end()], None), *pieces(text[tag.end() :], turn)]
        raise


def _cut(text: str, turn: int) -> str:
    kept: list[str] = []
    position = 0
    depth = 0
    for tag in TAG.finditer(text):
        if not _closes(tag):
            if depth == 0:
                kept.append(text[position : tag.start()])
            depth += 1
        elif depth <= 1:
            if depth == 0:
                kept.clear()
            depth = 0
            position = tag.end()
            # The line breaks after the reasoning set it apart from what follows it.
            while position < len(text) and text[position].isspace():
                position += 1
        else:
            depth -= 1
    if depth:
        raise Unusable(f"turn {turn}: reasoning that never ends")
    return "".join([*kept, text[position:]])


def _closes(tag: re.Match[str]) -> bool:
    return "/" in (tag["xml"], tag["square"], tag["arrow"])


def _strip(message: Message, turn: int) -> Message:
    content = message.get("content")
    text = strip_reasoning(content, turn) if content else content
    fields = [field for field in FIELDS if message.get(field) is not None]
    if text == content and not fields:
        return message
    return {**{key: value for key, value in message.items() if key not in fields}, "content": text}


def _is_empty(message: Message) -> bool:
    return not (message.get("content") or "").strip() and not message.get("tool_calls")
