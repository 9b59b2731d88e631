"""How much a row holds, and how much of it a change took away and added: turns and characters, exactly.

A row's amounts are those of its texts: contents, reasoning, the names and arguments of calls (as compact JSON) and
the tools. Roles, ids and metadata are not counted, as nothing of them is trained on. A raw row that is no chat yet
counts all its values, and no turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from agent_sft.data.transforms.chat import json_text
from agent_sft.data.transforms.contract import ORIGIN

Amounts = Counter[str]
"""Numbers by unit."""

TURNS = "turns"
CHARACTERS = "characters"
UNITS = (TURNS, CHARACTERS)

Piece = tuple[str, str]
"""What a part of a row is (`turn` and its role, or `key` and its name) and all of its text."""


def measure(row: Mapping[str, Any]) -> Amounts:
    """Return the amounts of a row."""
    messages = row.get("messages")
    if type(messages) is not list:
        return _sum(pieces(row))
    characters = len(json_text(row["tools"])) if row.get("tools") else 0
    return Counter({TURNS: len(messages), CHARACTERS: characters + sum(map(_length, messages))})


def compare(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> tuple[Amounts, Amounts]:
    """Return what of some rows was removed, and what was added, to make other rows of them.

    Always `measure(before) - removed + added == measure(after)`, unit by unit.
    """
    removed: Amounts = Counter({TURNS: 0, CHARACTERS: 0})
    added: Amounts = Counter({TURNS: 0, CHARACTERS: 0})
    for old, new in _changed(before, after):
        gone, come = _sum(old), _sum(new)
        shared = _shared("".join(text for _, text in old), "".join(text for _, text in new))
        turns = min(gone[TURNS], come[TURNS])
        removed.update({TURNS: gone[TURNS] - turns, CHARACTERS: gone[CHARACTERS] - shared})
        added.update({TURNS: come[TURNS] - turns, CHARACTERS: come[CHARACTERS] - shared})
    return removed, added


def _changed(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[list[Piece], list[Piece]]]:
    """Yield the stretches in which some rows and those made of them differ."""
    if len(before) == 1 == len(after) and (found := _replaced(before[0], after[0])) is not None:
        yield from found
        return
    old = [piece for row in before for piece in pieces(row)]
    new = [piece for row in after for piece in pieces(row)]
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            yield old[a:b], new[c:d]


def _replaced(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[list[Piece], list[Piece]]] | None:
    """Return the stretches that differ where messages that were not changed are still the same objects, in order.

    Transforms that keep what they do not change, as those built in do, need no texts compared. None where that does
    not hold.
    """
    old, new = before.get("messages"), after.get("messages")
    if type(old) is not list or type(new) is not list or before.get("tools") is not after.get("tools"):
        return None
    places = {id(message): place for place, message in enumerate(new)}
    if len(places) != len(new) or not any(id(message) in places for message in old):
        return None
    found: list[tuple[list[Piece], list[Piece]]] = []
    start = at = 0
    for place, message in [*enumerate(old), (len(old), None)]:
        match = len(new) if message is None else places.get(id(message))
        if match is None:
            continue
        if match < at:
            return None
        if place > start or match > at:
            found.append(([_piece(one) for one in old[start:place]], [_piece(one) for one in new[at:match]]))
        start, at = place + 1, match + 1
    return found


def pieces(row: Mapping[str, Any]) -> list[Piece]:
    """Return the texts of a row, one for each message and one for the tools."""
    messages = row.get("messages")
    if not isinstance(messages, list):
        return [(f"key {key}", _text(value)) for key, value in row.items() if key != ORIGIN]
    found = [("key tools", json_text(row["tools"]))] if row.get("tools") else []
    return found + [_piece(message) for message in messages]


def _piece(message: Any) -> Piece:
    if not isinstance(message, dict):
        return "turn", _text(message)
    return f"turn {message.get('role')}", "".join(_texts(message))


def _length(message: Any) -> int:
    if type(message) is not dict:
        return len(_text(message))
    content = message.get("content")
    if type(content) is str and "tool_calls" not in message and "reasoning_content" not in message:
        return len(content)
    return sum(map(len, _texts(message)))


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    for key in ("reasoning_content", "content"):
        if (value := message.get(key)) is not None:
            yield _text(value)
    for call in message.get("tool_calls") or ():
        function = call.get("function", call) if isinstance(call, dict) else call
        parts = (function.get("name"), function.get("arguments")) if isinstance(function, dict) else (function,)
        yield from (_text(part) for part in parts if part is not None)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)


def _sum(found: Sequence[Piece]) -> Amounts:
    turns = sum(not kind.startswith("key ") for kind, _ in found)
    return Counter({TURNS: turns, CHARACTERS: sum(len(text) for _, text in found)})


def _shared(first: str, second: str) -> int:
    """Return how many characters two texts have in common at their beginning and their end."""
    start = _prefix(first, second)
    return start + _prefix(first[start:][::-1], second[start:][::-1])


def _prefix(first: str, second: str) -> int:
    """Return the length of the common beginning, by halving: comparing slices is fast in texts of any size."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
