"""Consecutive turns of the same speaker become one, where that loses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, count
from operator import eq, sub

from pydantic import BaseModel

from agent_sft.data.known import Joined, common_of, remember
from agent_sft.data.merging import JOINT
from agent_sft.data.transforms.chat import OPENED, Message, messages_of
from agent_sft.data.transforms.contract import Row, RowTransform
from agent_sft.data.transforms.registry import register_transform

SPEAKERS = ("user", "assistant", "system")
"""Results are left alone: which call one answers must stay to be seen."""

KNOWN = {"role", "content", "tool_calls"}


class Config(BaseModel, extra="forbid"):
    """How texts are joined."""

    joint: str = JOINT
    """What stands between two joined texts."""


@register_transform("merge_turns")
class MergeTurns(RowTransform):
    """Joins what one speaker said in several turns; words and the call that follows them are one turn, too."""

    name = "merge_turns"
    row_by_row = True
    Config = Config

    def __init__(self, **params: object) -> None:
        self.config = Config.model_validate(params)

    def change(self, row: Row) -> Row:
        """Return the row with its turns joined."""
        given = messages_of(row)
        common = common_of(given)
        merged, joined = _merged(given, self.config.joint, common=common is not None)
        if merged is given:
            return row
        # Usable turns joined are usable, and a space cannot make a mark of two halves.
        remember(merged, joined=joined, common=common if self.config.joint.isspace() else None)
        return {**row, "messages": merged}


def merge_turns(messages: list[Message], joint: str = JOINT) -> list[Message]:
    """Return the messages with consecutive ones of a speaker joined.

    Turns stay apart where one holds a call that the other's words would have to pass, where only the second has
    reasoning, and where both have a further key that says different things.
    """
    return _merged(messages, joint)[0]


def _merged(messages: list[Message], joint: str, *, common: bool = False) -> tuple[list[Message], Joined | None]:
    """Return the messages with consecutive ones joined, and what that did; None where it has to be looked at.

    They are given back themselves where there is nothing to join.

    Args:
        messages: usable messages.
        joint: what stands between two joined texts.
        common: whether they are known to be common ones (see `known.Common`).
    """
    roles = [message["role"] for message in messages]
    merged: list[Message] = []
    places: list[int] = []
    """Where messages stood that were joined to the one before, and where they came to stand."""
    ats: list[int] = []
    done, is_plain = 0, common
    for place in compress(count(1), map(eq, roles, roles[1:])):
        role = roles[place]
        if role not in SPEAKERS:
            continue
        merged += messages[done:place]
        done = place
        first, second = merged[-1], messages[place]
        if common and len(first) == 2:
            said, words = first["content"], second["content"]
            joined: Message | None = {"role": role, "content": said if words is None else f"{said}{joint}{words}"}
            if len(second) > 2:
                joined["tool_calls"] = second["tool_calls"]  # type: ignore[index]
        else:
            joined = _joined(first, second, joint)
            is_plain = False
        if joined is None:
            continue
        merged[-1] = joined
        done += 1
        places.append(place)
        ats.append(len(merged) - 1)
    if not places:
        return messages, None
    merged += messages[done:]
    if is_plain and min(map(sub, ats[1:], ats), default=2) > 1:
        # Words and what follows them, each time with a message before that stayed as it was.
        joints = len(places) - [messages[place]["content"] for place in places].count(None)
        return merged, Joined(messages, len(places), joints * len(joint), [])
    return merged, _what_was_joined(messages, merged, _runs(places, ats), len(joint))


def _runs(places: Sequence[int], ats: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Return where messages stood and came to stand, together those with no message between that stayed as it was."""
    runs: list[list[tuple[int, int]]] = []
    last = -2
    for place, at in zip(places, ats, strict=True):
        if at - last > 1:
            runs.append([(place, at)])
        else:
            runs[-1].append((place, at))
        last = at
    return runs


def _what_was_joined(
    given: list[Message], merged: list[Message], runs: list[list[tuple[int, int]]], joint: int
) -> Joined | None:
    turns = joints = 0
    further: list[tuple[list[Message], list[Message]]] = []
    for run in runs:
        start, at = run[0]
        if len(run) == 1 and len(first := given[start - 1]) == 2 and "reasoning_content" not in merged[at]:
            turns += 1
            joints += first.get("content") is not None and given[start].get("content") is not None
        else:
            end, to = run[-1]
            further.append((given[start - 1 : end + 1], merged[at : to + 1]))
    if further and len(further[0][0]) == len(given):
        return None
    return Joined(given, turns, joints * joint, further)


def _joined(first: Message, second: Message, joint: str) -> Message | None:
    """Return what two turns of one speaker become; None where they stay apart."""
    words = second.get("content")
    called = _calls(first)
    if called and (words or called == "text"):
        return None
    if KNOWN.issuperset(second):
        further = {}
    else:
        further = {key: value for key, value in second.items() if key not in KNOWN and value is not None}
    if further and any(first.get(key) not in (None, value) for key, value in further.items()):
        return None
    if "reasoning_content" in further and not first.get("reasoning_content") and (first.get("content") or called):
        return None
    said = first.get("content")
    joined = {**first, **further, "content": said if words is None else words if said is None else said + joint + words}
    calls = [*(first.get("tool_calls") or ()), *(second.get("tool_calls") or ())]
    return {**joined, "tool_calls": calls} if calls else joined


def _calls(message: Message) -> str | None:
    """Tell whether a message calls a tool, and where the call stands."""
    if message.get("tool_calls"):
        return "tool_calls"
    return "text" if message["role"] == "assistant" and OPENED in (message.get("content") or "") else None
