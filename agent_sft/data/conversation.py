"""The canonical conversation: the one form that every format is read into and written from.

It holds what was said, nothing of how a file spelled it. All of it is immutable; `structs.replace` makes changed
copies. `to_row` and `from_row` give the plain dictionaries that transforms work on, in the names of the OpenAI chat
format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Role = Literal["user", "assistant", "tool", "system"]


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of a tool."""

    name: str
    arguments: Any
    """What the tool is called with, parsed: an object in all but odd data. Never text that holds JSON."""
    id: str | None = None
    """By which the result refers to the call; None where the data has none."""


class Turn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn."""

    role: Role
    text: str | None = None
    """What is said, or the result of a call; None where a turn consists of calls alone."""
    reasoning: str | None = None
    """What the assistant thought before, without any mark around it."""
    calls: tuple[ToolCall, ...] = ()
    """The assistant's calls, in order."""
    call_id: str | None = None
    """Of a tool's result: the call that it answers."""
    name: str | None = None
    """Of a tool's result: the tool."""
    supervise: bool | None = None
    """Whether this assistant turn carries loss; None leaves it to the run."""


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a conversation came from."""

    file: str
    row: int
    """From 1: the place in an array, the line's number among rows, the simulation in a result file."""
    part: int = 0
    """Which part, from 1, when the row was split; 0 when it is whole."""


class Conversation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A conversation between a user, an assistant and its tools."""

    turns: tuple[Turn, ...]
    """Without the leading system turns: those are `system`. A system turn can stand in the middle."""
    origin: Origin
    system: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Bare functions as JSON schemas: `name`, `description`, `parameters`."""
    metadata: Mapping[str, Any] = {}
    """What else the row held: ids, rewards, a `response_format`; never trained on."""
