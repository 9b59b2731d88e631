"""Consecutive turns of the same speaker become one, where that loses nothing."""

from __future__ import annotations

from pydantic import BaseModel

from agent_sft.data.known import remember
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
        messages = messages_of(row)
        changed = with_messages(row, merge_turns(messages, self.config.joint))
        remember(changed["messages"])  # usable turns joined are usable
        return changed


def merge_turns(messages: list[Message], joint: str = JOINT) -> list[Message]:
    """Return the messages with consecutive ones of a speaker joined.

    Turns stay apart where one holds a call that the other's words would have to pass, where only the second has
    reasoning, and where both have a further key that says different things.
    """
    merged: list[Message] = []
    before = None
    for message in messages:
        role = message["role"]
        if role == before and role in SPEAKERS and (joined := _joined(merged[-1], message, joint)) is not None:
            merged[-1] = joined
        else:
            merged.append(message)
            before = role
    return merged


def _joined(first: Message, second: Message, joint: str) -> Message | None:
    """Return what two turns of one speaker become; None where they stay apart."""
    words = second.get("content")
    if _calls(first) and (words or _calls(first) == "text"):
        return None
    if KNOWN.issuperset(second):
        further = {}
    else:
        further = {key: value for key, value in second.items() if key not in KNOWN and value is not None}
    if further and any(first.get(key) not in (None, value) for key, value in further.items()):
        return None
    if (
        "reasoning_content" in further
        and not first.get("reasoning_content")
        and (first.get("content") or _calls(first))
    ):
        return None
    texts = [text for text in (first.get("content"), words) if text is not None]
    calls = [*(first.get("tool_calls") or ()), *(second.get("tool_calls") or ())]
    joined = {**first, **further, "content": joint.join(texts) if texts else None}
    return {**joined, "tool_calls": calls} if calls else joined


def _calls(message: Message) -> str | None:
    """Tell whether a message calls a tool, and where the call stands."""
    if message.get("tool_calls"):
        return "tool_calls"
    return "text" if message["role"] == "assistant" and OPENED in (message.get("content") or "") else None
