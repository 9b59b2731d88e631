"""Runs one transform over a stream of rows and tells, for each row, what came of it.

Rows are known by their `origin`. What a transform returns may be lazy or not, in order or not, fewer or more rows.
"""

from __future__ import annotations

import copy
import json
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from agent_sft.data.known import forget
from agent_sft.data.reading import describe
from agent_sft.data.rows import ROLES
from agent_sft.data.transforms.contract import ORIGIN, Outcome, Row, Transform
from agent_sft.errors import UserError


@dataclass(frozen=True)
class Step:
    """What a transform made of one row."""

    before: Row | None
    """None for a row that the transform brought along."""
    after: tuple[Outcome, ...]
    """What came out of it; nothing if it was swallowed without a word."""


class _Stream:
    """The rows as the transform gets them; remembers those that it has taken and not given back yet."""

    def __init__(self, rows: Iterable[Row], *, copies: bool) -> None:
        self._rows = iter(rows)
        self.copies = copies
        self.pending: dict[Any, Row] = {}
        self.last: Row | None = None
        self.taken: list[Row] | None = []
        """Rows taken during the call itself: a transform may return the very stream that it has read to the end."""

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.last = row
            self.pending[key_of(row)] = copy.deepcopy(row) if self.copies else row
            if self.taken is not None:
                self.taken.append(row)
            yield row


def run(kind: str, transform: Transform, rows: Iterable[Row]) -> Iterator[Step]:
    """Yield what a transform makes of each row; rows that come out of one right after each other are one step.

    Raises:
        UserError: it raised, or gave something else than rows; with file, row and kind.
    """
    stream = _Stream(rows, copies=not getattr(transform, "keeps_rows", False))
    group: list[Outcome] = []
    for outcome in _outcomes(kind, transform, stream):
        if group and key_of(outcome.row) != key_of(group[0].row):
            yield _step(stream, group)
            group = []
        group.append(outcome)
        if stream.copies:
            forget()
    if group:
        yield _step(stream, group)
    for row in list(stream.pending.values()):
        yield Step(row, ())


def is_foreign(transform: Transform) -> bool:
    """Tell whether a transform is somebody's own, not one of this package."""
    return not type(transform).__module__.startswith("agent_sft.")


def key_of(row: Row) -> tuple[Any, ...] | int:
    """Return what tells a row from others: its origin, or that it has none."""
    origin = row.get(ORIGIN)
    if isinstance(origin, dict) and "row" in origin:
        return (origin.get("file"), origin["row"], origin.get("part", 0))
    return id(row)


def place_of(row: Row | None) -> str | None:
    """Return a row's file and number as errors name them."""
    key = key_of(row) if row is not None else 0
    return f"{key[0]}, row {key[1]}" if isinstance(key, tuple) else None


def _step(stream: _Stream, group: list[Outcome]) -> Step:
    return Step(stream.pending.pop(key_of(group[0].row), None), tuple(group))


def _outcomes(kind: str, transform: Transform, stream: _Stream) -> Iterator[Outcome]:
    own = is_foreign(transform)
    try:
        returned: Any = transform(stream)
        if returned is stream:
            returned = [*(stream.taken or ()), *stream]
        stream.taken = None
        if isinstance(returned, dict | str | bytes) or not isinstance(returned, Iterable):
            raise _no_rows(kind, stream, f"gave {_named(returned)} instead of rows")
        for item in returned:
            outcome = item if isinstance(item, Outcome) else Outcome(item)
            if not isinstance(outcome.row, dict):
                raise _no_rows(kind, stream, f"gave {_named(outcome.row)} among its rows")
            if own and outcome.fate == "kept" and (why := _unsound(outcome.row)):
                raise _no_rows(kind, stream, f"gave a row that is no conversation: {why}")
            yield outcome
    except GeneratorExit:
        raise
    except UserError as error:
        where = error.where or _where(kind, stream)
        raise UserError(error.what, where=where, fix=error.fix) from error
    except (Exception, SystemExit) as error:
        message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raised_at = traceback.extract_tb(error.__traceback__)[-1]
        what = f"the transform raised {message} ({raised_at.filename}, line {raised_at.lineno})"
        raise UserError(what, where=_where(kind, stream)) from error


def _unsound(row: Row) -> str | None:
    """Return why a row of somebody's own transform is no conversation; None where it can be one."""
    try:
        json.dumps(row, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return f"it cannot be written as JSON: {error}"
    messages = row.get("messages")
    if not isinstance(messages, list):
        return f"'messages' is {describe(messages)}, not an array" if "messages" in row else "it has no 'messages'"
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            return f"message {number} is no object with a role: {', '.join(ROLES)}"
        if not isinstance(content := message.get("content"), str | None):
            return f"message {number} ({message['role']}): 'content' is {describe(content)}, not a text"
    return None


def _no_rows(kind: str, stream: _Stream, what: str) -> UserError:
    fix = "a transform yields dictionaries, or returns a list of them"
    return UserError(what, where=_where(kind, stream), fix=fix)


def _where(kind: str, stream: _Stream) -> str:
    place = place_of(stream.last)
    return f"{place}, transform '{kind}'" if place else f"transform '{kind}'"


def _named(value: Any) -> str:
    name = type(value).__name__
    return "nothing" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
