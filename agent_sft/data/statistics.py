"""What is in prepared rows: turns, roles, tools that are called, lengths, duplicates."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from agent_sft.data.calls import parse_calls
from agent_sft.data.checks import CALL_MARK
from agent_sft.data.turns import FUNCTION_CALL, Turn, Unusable

MOST_BINS = 16


@dataclass
class Statistics:
    """Counts over rows. Of each row a digest of 16 bytes is kept, to find the same one again."""

    rows: int = 0
    turns: int = 0
    characters: int = 0
    duplicates: int = 0
    """Rows that hold exactly what a row before them holds."""
    roles: Counter[str] = field(default_factory=Counter)
    tools: Counter[str] = field(default_factory=Counter)
    """Calls by the tool's name."""
    lengths: list[int] = field(default_factory=list)
    """Characters of each row; whoever counts tokens puts those in their place."""
    _seen: set[bytes] = field(default_factory=set)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row."""
        turns = row["conversations"]
        length = len(row["system"]) + len(row["tools"]) + sum(len(turn["value"]) for turn in turns)
        self.rows += 1
        self.turns += len(turns)
        self.characters += length
        self.lengths.append(length)
        self.roles.update(turn["from"] for turn in turns)
        self.tools.update(name for turn in turns for name in called_tools(turn))
        digest = hashlib.blake2b(orjson.dumps(row, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
        self.duplicates += digest in self._seen
        self._seen.add(digest)

    @property
    def duplicate_rate(self) -> float:
        """Share of the rows that are duplicates of one before them."""
        return self.duplicates / self.rows if self.rows else 0.0


def called_tools(turn: Mapping[str, Any]) -> Iterator[str]:
    """Yield the name of each tool that a turn calls; nothing for calls that cannot be read."""
    if turn["from"] != FUNCTION_CALL and CALL_MARK not in turn["value"]:
        return
    try:
        texts = parse_calls(Turn(FUNCTION_CALL, turn["value"], 1)).texts
    except Unusable:
        return
    for text in texts:
        value = json.loads(text)
        yield from (call["name"] for call in (value if isinstance(value, list) else [value]))


@dataclass(frozen=True)
class Histogram:
    """Numbers by equally wide bins."""

    first: int
    """Where the first bin begins: a multiple of the width."""
    width: int
    """Of a bin: 1, 2 or 5 times a power of ten."""
    counts: tuple[int, ...]

    @classmethod
    def of(cls, values: Sequence[int]) -> Histogram:
        """Return the histogram of numbers that are not negative, with at most `MOST_BINS` bins."""
        if not values:
            return cls(0, 1, ())
        sizes = (step * 10**exponent for exponent in range(20) for step in (1, 2, 5))
        low, high = min(values), max(values)
        width = next(size for size in sizes if high // size - low // size < MOST_BINS)
        counted = Counter(value // width for value in values)
        return cls(low // width * width, width, tuple(counted[bin_] for bin_ in range(low // width, high // width + 1)))

    def bins(self) -> Iterator[tuple[int, int, int]]:
        """Yield the first number of each bin, the first one after it, and how many are in it."""
        for number, count in enumerate(self.counts):
            start = self.first + number * self.width
            yield start, start + self.width, count


def quantile(values: Sequence[int], share: float) -> int:
    """Return the smallest value that at least this share of all is not greater than (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
