"""Stretches of a file that hold whole rows, cut without parsing them: what other processes can work on.

Where a stretch ends is told by how rows begin. Only parsing it shows that this was right: then every row in it is one,
for JSON ends in one place alone. Where it was not, the stretch is handed back and read row by row.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agent_sft.data.jsontext import loads_all

BLOCK = 1 << 19
"""Bytes of a stretch, unless a row is longer."""
TAIL = 256
"""Bytes before a row in which the comma behind the last one has to stand."""


@dataclass(frozen=True)
class Block:
    """A stretch of a file."""

    data: bytes | memoryview
    first: int
    """The number of its first row, from 1."""
    count: int
    """How many rows it has if it was cut well."""
    starts: tuple[int, ...] | None
    """Where each of its rows seems to begin; None where each is a line."""
    place: Any
    """Where it begins, as what cut it counts."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Let its data go to another process through shared memory, from which it is read until there is a result."""
        return _received, (pickle.PickleBuffer(self.data), self.first, self.count, self.starts, None)

    def rows(self) -> Iterator[tuple[int, Any]]:
        """Yield the number and the value of each row.

        Raises:
            ValueError: it was not cut well, or is no JSON.
        """
        return ((number, loads_all(text)) for number, text in self.texts())

    def texts(self) -> Iterator[tuple[int, bytes]]:
        """Yield the number and the JSON text of each row: if each of them is one, the block was cut well.

        Raises:
            ValueError: it was not.
        """
        texts = bytes(self.data).splitlines() if self.starts is None else list(self._elements(self.starts))
        if len(texts) != self.count:
            raise ValueError("rows are missing")
        return enumerate(texts, start=self.first)

    def _elements(self, starts: Sequence[int]) -> Iterator[bytes]:
        data = memoryview(self.data)
        for start, end in zip(starts, (*starts[1:], None), strict=True):
            if end is None:
                yield bytes(data[start:]).rstrip()
                continue
            tail = max(start, end - TAIL)
            comma = bytes(data[tail:end]).rstrip()
            if not comma.endswith(b","):
                raise ValueError("rows without a comma between them, or far apart")
            yield bytes(data[start : tail + len(comma) - 1])


def _received(data: Any, *facts: Any) -> Block:
    return Block(data, *facts)


class Cutter(Protocol):
    """Cuts blocks from where the reading of rows has come to."""

    def take(self, after: int) -> Block | None:
        """Return what follows the row of that number, the last that was read; None where it has to be read by rows."""

    def hand_back(self, blocks: Sequence[Block]) -> None:
        """Put back the blocks taken last, in their order: they are to be read by rows."""
