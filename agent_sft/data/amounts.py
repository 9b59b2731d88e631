"""How much a row holds, and how much of it a change took away and added: turns and characters, exactly.

A row's amounts are those of its texts: contents, reasoning, the names and arguments of calls (as compact JSON) and
the tools. Roles, ids and metadata are not counted, as nothing of them is trained on. A raw row that is no chat yet
counts all its values, and no turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import count
from typing import Any

from agent_sft.data.known import characters_of, joined_of, remember_characters
from agent_sft.data.transforms.chat import json_text
from agent_sft.data.transforms.contract import ORIGIN

Amounts = Counter[str]
"""Numbers by unit."""

TURNS = "turns"
CHARACTERS = "characters"
UNITS = (TURNS, CHARACTERS)

Piece = tuple[str, str]
"""What a part of a row is (`turn` and its role, or `key` and its name) and all of its text."""


def amounts_of(turns: int, characters: int) -> Amounts:
    """Return the amounts of so much; in a tenth of the time that `Counter` takes to look at what it is given."""
    made: Amounts = Counter.__new__(Counter)
    made[TURNS], made[CHARACTERS] = turns, characters
    return made


def add_to(total: Amounts, amounts: Mapping[str, int]) -> None:
    """Add amounts to a total: what `total.update` does, for as few units as there are, in a third of the time."""
    for unit, amount in amounts.items():
        total[unit] += amount


def measure(row: Mapping[str, Any]) -> Amounts:
    """Return the amounts of a row."""
    messages = row.get("messages")
    if type(messages) is not list:
        return _sum(pieces(row))
    characters = len(json_text(row["tools"])) if row.get("tools") else 0
    if (known := characters_of(messages)) is not None:
        return amounts_of(len(messages), characters + known)
    for message in messages:
        if type(message) is dict and len(message) == 2 and "role" in message:
            content = message.get("content")
            characters += len(content) if type(content) is str else _length(message)
        else:
            characters += _length(message)
    return amounts_of(len(messages), characters)


def remember_amounts(row: Mapping[str, Any], amounts: Amounts) -> None:
    """Remember the amounts of a chat row, where they are known, so that `measure` need not count again."""
    tools = len(json_text(row["tools"])) if row.get("tools") else 0
    remember_characters(row.get("messages"), amounts[CHARACTERS] - tools)


def compare(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> tuple[Amounts, Amounts]:
    """Return what of some rows was removed, and what was added, to make other rows of them.

    Always `measure(before) - removed + added == measure(after)`, unit by unit.
    """
    turns_removed = turns_added = characters_removed = characters_added = 0
    for turns, gone, come in _exchanges(before, after):
        turns_removed += max(-turns, 0)
        turns_added += max(turns, 0)
        characters_removed += gone
        characters_added += come
    return amounts_of(turns_removed, characters_removed), amounts_of(turns_added, characters_added)


def _exchanges(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[int, int, int]]:
    """Yield, of each stretch that differs, how many turns it has more, and how many characters went and came."""
    if len(before) == 1 == len(after) and (found := _replaced(before[0], after[0])) is not None:
        if (joined := joined_of(before[0]["messages"], after[0]["messages"])) is not None:
            yield -joined.turns, 0, joined.characters
        for old_messages, new_messages in found:
            exchanged = _exchanged_words(old_messages, new_messages)
            yield exchanged or _exchanged([*map(_piece, old_messages)], [*map(_piece, new_messages)])
        return
    old = [piece for row in before for piece in pieces(row)]
    new = [piece for row in after for piece in pieces(row)]
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            yield _exchanged(old[a:b], new[c:d])


def _exchanged_words(old: Sequence[Any], new: Sequence[Any]) -> tuple[int, int, int] | None:
    """Return what `_exchanged` does where only words differ, as when turns are joined; None where more may.

    The same calls at the end add the same text to both sides, which need not be written out.
    """
    if not old or len(new) != 1:
        return None
    calls: list[Any] = []
    words: list[str] = []
    for message in (*old, *new):
        if type(message) is not dict or "reasoning_content" in message:
            return None
        content, listed = message.get("content"), message.get("tool_calls")
        if not (content is None or type(content) is str) or not (listed is None or type(listed) is list):
            return None
        if message is new[0]:
            if calls != listed if calls else listed:
                return None
        elif calls:
            return None
        else:
            calls = listed or []
        words.append(content or "")
    first, second = "".join(words[:-1]), words[-1]
    if first == second:
        return 1 - len(old), 0, 0
    start = _prefix(first, second)
    if calls and start == min(len(first), len(second)):
        return None
    shared = start + _prefix(first[start:][::-1], second[start:][::-1])
    return 1 - len(old), len(first) - shared, len(second) - shared


def _exchanged(old: Sequence[Piece], new: Sequence[Piece]) -> tuple[int, int, int]:
    """Return how many turns more a stretch has, and how many of its characters went and came."""
    first, second = "".join([text for _, text in old]), "".join([text for _, text in new])
    shared = len(first) if first == second else _shared(first, second)
    return _turns(new) - _turns(old), len(first) - shared, len(second) - shared


def _replaced(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[list[Any], list[Any]]] | None:
    """Return the stretches that differ where messages that were not changed are still the same objects, in order.

    Transforms that keep what they do not change, as those built in do, need no texts compared. None where that does
    not hold.
    """
    old, new = before.get("messages"), after.get("messages")
    if type(old) is not list or type(new) is not list or before.get("tools") is not after.get("tools"):
        return None
    if (joined := joined_of(old, new)) is not None:
        return joined.further
    places = dict(zip(map(id, new), count()))
    matches: list[int | None] = list(map(places.get, map(id, old)))
    if len(places) != len(new) or matches.count(None) == len(old):
        return None
    matches.append(len(new))
    found: list[tuple[list[Any], list[Any]]] = []
    start = at = 0
    for place, match in enumerate(matches):
        if match == at and place == start:
            start += 1
            at += 1
            continue
        if match is None:
            continue
        if match < at:
            return None
        if match > at or place > start:
            found.append((old[start:place], new[at:match]))
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
    if "reasoning_content" in message or not (content is None or type(content) is str):
        return sum(map(len, _texts(message)))
    total = len(content or "")
    for call in message.get("tool_calls") or ():
        function = call.get("function", call) if isinstance(call, dict) else call
        if type(function) is dict and type(name := function.get("name")) is str:
            arguments = function.get("arguments")
            if type(arguments) is dict:
                total += len(name) + len(json_text(arguments))
                continue
        for part in (function.get("name"), function.get("arguments")) if isinstance(function, dict) else (function,):
            if part is not None:
                total += len(part if type(part) is str else json_text(part))
    return total


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
    return amounts_of(_turns(found), sum(len(text) for _, text in found))


def _turns(found: Sequence[Piece]) -> int:
    return sum([not kind.startswith("key ") for kind, _ in found])


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
