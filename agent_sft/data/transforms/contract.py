"""What a transform is: rows in, rows out, with parameters that are checked before anything is read.

A row is a plain dictionary: a conversation in the names of the OpenAI chat format (`messages`, `tools`, `metadata`),
or whatever a raw file held before `jsonl_to_chat`. `origin` says where it came from; a transform that makes a new
dictionary keeps it, so that what became of every row can be told.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from pydantic import BaseModel

from agent_sft.data.turns import Unusable

Row: TypeAlias = dict[str, Any]

ORIGIN = "origin"
"""The key under which a row carries where it came from: `{"file": ..., "row": ...}`, rows counted from 1."""

Ending = Literal["left out", "rejected"]
Fate = Literal["kept"] | Ending


@dataclass(frozen=True)
class Outcome:
    """A row that comes out of a transform together with what there is to say about it."""

    row: Row
    fate: Fate = "kept"
    """`left out` is what was asked for (a filter, a sample); `rejected` is a fault of the row."""
    notes: tuple[str, ...] = ()
    """What was done to it, or why it goes no further."""


def reject(row: Row, reason: str) -> Outcome:
    """Return what a transform yields for a row that must not be trained on."""
    return Outcome(row, "rejected", (reason,))


def leave_out(row: Row, reason: str) -> Outcome:
    """Return what a transform yields for a row that nobody asked for."""
    return Outcome(row, "left out", (reason,))


def noted(row: Row, *notes: str) -> Outcome:
    """Return what a transform yields for a row whose changes should be listed one by one."""
    return Outcome(row, notes=notes)


class Transform(Protocol):
    """The contract `rows -> rows`; what is returned may be a list, a generator, or the rows that were given."""

    name: str

    def __call__(self, rows: Iterable[Row], /) -> Iterable[Row | Outcome]:
        """Return what becomes of the rows."""


class NoParameters(BaseModel, extra="forbid"):
    """The parameters of a transform that takes none."""


class RowTransform(ABC):
    """A transform that looks at one row at a time, which it leaves as it is and answers with another.

    A subclass has a `name`, a `Config` and `change`, which raises `Unusable` for a row that cannot be used.
    """

    name: ClassVar[str]
    keeps_rows: ClassVar[bool] = True
    """Rows given are never changed in place: an answer that is the same object is an unchanged row."""
    row_by_row: ClassVar[bool] = False
    """What becomes of a row depends on that row alone, so that several processes can share the rows of large files. A
    class says so for itself, not for those derived from it."""
    Config: ClassVar[type[BaseModel]] = NoParameters

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row | Outcome]:
        """Yield what becomes of each row."""
        for row in rows:
            try:
                outcome = self.change(row)
            except Unusable as unusable:
                outcome = reject(row, str(unusable))
            yield outcome

    @abstractmethod
    def change(self, row: Row) -> Row | Outcome:
        """Return what becomes of a row; the row itself where there is nothing to do."""
