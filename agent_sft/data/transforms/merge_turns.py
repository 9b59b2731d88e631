"""Consecutive turns of the same speaker become one, where that loses nothing."""

from __future__ import annotations

from pydantic import BaseModel

from agent_sft.data.known import Joined, remember
from agent_sft.data.merging import JOINT
from agent_sft.data.transforms.chat import OPENED, Message, messages_of, with_messages
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
        merged, joined = _merged(given, self.config.joint)
        changed = with_messages(row, merged)
        remember(changed["messages"], joined=joined)  # usable turns joined are usable
        return changed


def merge_turns(messages: list[Message], joint: str = JOINT) -> list[Message]:
    """Return the messages with consecutive ones of a speaker joined.

    Turns stay apart where one holds a call that the other's words would have to pass, where only the second has
    reasoning, and where both have a further key that says different things.
    """
    return _merged(messages, joint)[0]


def _merged(messages: list[Message], joint: str) -> tuple[list[Message], Joined | None]:
    """Return the messages with consecutive ones joined, and what that did; None where it has to be looked at."""
    merged: list[Message] = []
    before = None
    joins: list[tuple[int, int]] = []
    """Where joined messages stood and came to stand."""
    for place, message in enumerate(messages):
        role = message["role"]
        if role == before and role in SPEAKERS and (joined := _joined(merged[-1], message, joint)) is not None:
            merged[-1] = joined
            joins.append((place, len(merged) - 1))
        else:
            merged.append(message)
            before = role
    return merged, _what_was_joined(messages, merged, joins, joint) if joins else None


def _what_was_joined(
    given: list[Message], merged: list[Message], joins: list[tuple[int, int]], joint: str
) -> Joined | None:
    turns = joints = 0
    further: list[tuple[list[Message], list[Message]]] = []
    run: list[tuple[int, int]] = []  # joins with no message between them that stayed as it was
    for join, (_, following) in zip(joins, (*joins[1:], (0, len(merged) + 1)), strict=True):
        run.append(join)
        if following - join[1] <= 1:
            continue
        (start, at), (end, to) = run[0], run[-1]
        first, second = given[start - 1], given[start]
        if len(run) == 1 and len(first) == 2 and "reasoning_content" not in merged[at]:
            turns += 1
            joints += first.get("content") is not None and second.get("content") is not None
        else:
            further.append((given[start - 1 : end + 1], merged[at : to + 1]))
        run = []
    if further and len(further[0][0]) == len(given):
        return None
    return Joined(given, turns, joints * len(joint), further)


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
