"""A source with its first rows looked at, so that it is known what its rows are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from agent_sft.data.blocks import Cutter
from agent_sft.data.conversation import Origin
from agent_sft.data.formats import Format, detect
from agent_sft.data.rewards import Rewards
from agent_sft.data.sources import Source

LOOKED_AT = 20
"""How many rows are looked at to find out what they are."""


@dataclass(frozen=True)
class Opened:
    """A source of which the first rows were looked at."""

    name: str
    form: Format | None
    """What its rows are read as; None takes them as they are."""
    first: list[tuple[Origin, Any]]
    rest: Iterator[tuple[Origin, Any]]
    cutter: Cutter | None
    """What cuts blocks of the rest; None where it has to be read row by row."""

    def rows(self) -> Iterator[tuple[Origin, Any]]:
        """Return all rows."""
        return chain(self.first, self.rest)


def open_rows_of(source: Source, asked: Format | None, rewards: Rewards, *, raw: bool = False) -> Opened:
    """Open a source and find out what its rows are.

    Args:
        source: where rows come from.
        asked: the format, where it is known.
        rewards: what is asked of rollouts.
        raw: whether rows are taken as they are.

    Raises:
        UserError: it cannot be read, or its rows are of no known format, or it was given as rollouts
            and holds none.
    """
    rows, cutter = source.open()
    first = list(islice(rows, LOOKED_AT))
    form = None if raw else asked or detect((row for _, row in first), source.name)
    rewards.expect(source.name, form, (row for _, row in first))
    return Opened(source.name, form, first, rows, cutter if len(first) == LOOKED_AT else None)
