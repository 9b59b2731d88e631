"""A fixed number of rows by chance, the same ones for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import ClassVar

from pydantic import BaseModel, Field

from agent_sft.data.transforms.contract import Outcome, Row, leave_out
from agent_sft.data.transforms.registry import register_transform


class Config(BaseModel, extra="forbid"):
    """How many, and which."""

    n: int = Field(gt=0)
    """Rows that go on; all of them where there are fewer."""
    seed: int = 0
    """Another seed draws other rows."""


@register_transform("sample")
class Sample:
    """Draws `n` rows, every row with the same chance, and hands them on in their order. It holds `n` rows at a time."""

    name = "sample"
    keeps_rows: ClassVar[bool] = True
    Config = Config

    def __init__(self, **params: object) -> None:
        self.config = Config.model_validate(params)

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row | Outcome]:
        """Yield what is left out as it is met, and at the end what was drawn.

        A reservoir (Vitter's algorithm R): how many rows there are need not be known.
        """
        chance = random.Random(self.config.seed)  # noqa: S311
        drawn: list[tuple[int, Row]] = []
        for number, row in enumerate(rows):
            entry = (number, row)
            if number >= self.config.n:
                place = chance.randint(0, number)
                if place < self.config.n:
                    drawn[place], entry = entry, drawn[place]
                yield leave_out(entry[1], f"not among the {self.config.n:,} drawn")
            else:
                drawn.append(entry)
        for _, row in sorted(drawn, key=lambda entry: entry[0]):
            yield row
