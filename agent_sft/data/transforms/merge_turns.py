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
    """Return the messages with consecutive ones joined, and what that did; None where it has to be looked at.

    Where two turns become one, and those around them stay, just a joint comes in between.
    """
    merged: list[Message] = []
    before = None
    turns = joints = 0
    last = -2  # where the last two were joined
    is_pairs = True
    for message in messages:
        role = message["role"]
        if role == before and role in SPEAKERS and (joined := _joined(merged[-1], message, joint)) is not None:
            first = merged[-1]
            merged[-1] = joined
            place = len(merged) - 1
            is_pairs = is_pairs and place - last > 1 and len(first) == 2 and "reasoning_content" not in joined
            last = place
            turns += 1
            joints += first.get("content") is not None and message.get("content") is not None
        else:
            merged.append(message)
            before = role
    return merged, Joined(messages, turns, joints * len(joint)) if is_pairs and turns else None


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
