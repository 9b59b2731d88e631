"""What is known of the messages that were looked at last, so that it is not found out again.

Rows go through a pipeline one after another, and a transform that has nothing to do hands on the very list that it
got: one place to remember is enough.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Joined(NamedTuple):
    """How messages were made of given ones, by joining some: nothing but a joint came in between."""

    given: list[Any]
    turns: int
    """How many were joined to the one before."""
    characters: int
    """How many characters the joints have."""
    further: list[tuple[list[Any], list[Any]]]
    """Stretches in which more was done: they are not counted, and have to be compared."""


class Common(NamedTuple):
    """What is known of messages with a role, a text or none, at most one usable call, and nothing else."""

    blocks: dict[int, tuple[dict[str, Any], str]]
    """Calls by their id, with the text that a template writes for them, as far as that is known."""


class _Last:
    messages: Any = None
    unpacked = False
    characters: int | None = None
    joined: Joined | None = None
    common: Common | None = None


_last = _Last()


def remember(
    messages: list[Any],
    *,
    unpacked: bool = False,
    characters: int | None = None,
    joined: Joined | None = None,
    common: Common | None = None,
) -> None:
    """Remember of messages that each is an object with a role and, if any, a text as its content.

    Args:
        messages: the messages.
        unpacked: whether moreover no call stands in a text, and each has an object of arguments.
        characters: how many of them there are in the messages, as `measure` counts.
        joined: how they were made, if that is all that was done.
        common: what is known if they hold nothing else, and no mark stands in their texts but `{{idx}}`.
    """
    _last.messages, _last.unpacked, _last.characters = messages, unpacked, characters
    _last.joined, _last.common = joined, common


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


def remember_characters(messages: Any, characters: int) -> None:
    """Remember moreover how many characters messages have, if they are the ones that were looked at last."""
    if are_checked(messages):
        _last.characters = characters


def common_of(messages: Any) -> Common | None:
    """Return what is known of messages that hold nothing but what is common; None where they may hold more."""
    return _last.common if are_checked(messages) else None


def joined_of(given: Any, messages: Any) -> Joined | None:
    """Return how messages were made of given ones; None where that is not known, or more may have been done."""
    joined = _last.joined if are_checked(messages) else None
    return joined if joined is not None and joined.given is given else None
