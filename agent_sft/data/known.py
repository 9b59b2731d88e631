"""What is known of the messages that were looked at last, so that it is not found out again.

Rows go through a pipeline one after another, and a transform that has nothing to do hands on the very list that it
got: one place to remember is enough.
"""

from __future__ import annotations

from typing import Any


class _Last:
    messages: Any = None
    unpacked = False
    characters: int | None = None


_last = _Last()


def remember(messages: list[Any], *, unpacked: bool = False, characters: int | None = None) -> None:
    """Remember of messages that each is an object with a role and, if any, a text as its content.

    Args:
        messages: the messages.
        unpacked: whether moreover no call stands in a text, and each has an object of arguments.
        characters: how many of them there are in the messages, as `measure` counts.
    """
    _last.messages, _last.unpacked, _last.characters = messages, unpacked, characters


def forget() -> None:
    """Forget it: somebody may have changed messages in place."""
    _last.messages = None


def are_checked(messages: Any) -> bool:
    """Tell whether messages are known to be usable."""
    return messages is _last.messages and messages is not None


def are_unpacked(messages: Any) -> bool:
    """Tell whether all calls in messages are known to be listed, with objects of arguments."""
    return are_checked(messages) and _last.unpacked


def characters_of(messages: Any) -> int | None:
    """Return how many characters messages have; None where that is not known."""
    return _last.characters if are_checked(messages) else None
