"""Conversations in groups that stay together, and parts made of whole groups: what is held out is in no other part."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from agent_sft.data.transforms.fields import MISSING, look_up
from agent_sft.data.transforms.split import drawn
from agent_sft.data.turns import Unusable

KNOWN = tuple(f"metadata.{name}" for name in ("group", "task_id", "task", "case", "instance_id", "problem_id"))
"""Places that name the group of a row, the first that all rows have."""
FEWEST = 10
"""Names that are fewer are kinds of conversations, not groups of the same one."""
TOO_MUCH = 1.5
"""A group that would make a part so many times as large as was asked for goes to the other one."""


@dataclass(frozen=True)
class Groups:
    """Rows by the group that they belong to."""

    place: str | None
    """Where a row names its group; None where its prompt alone does."""
    of: tuple[str, ...]
    """The group of each row."""

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(set(self.of))

    def choose(self, rows: Iterable[int], wanted: int, seed: int) -> list[int]:
        """Return about so many of the rows, whole groups drawn by the seed, in their order.

        Args:
            rows: numbers of rows to choose from.
            wanted: how many.
            seed: another one draws others.
        """
        there = list(rows)
        sizes = Counter(self.of[row] for row in there)
        taken: set[str] = set()
        count = 0
        for group in sorted(sizes, key=lambda group: (drawn(group, seed), group)):
            if count >= wanted:
                break
            if count + sizes[group] <= TOO_MUCH * wanted or (not taken and sizes[group] <= len(there) / 2):
                taken.add(group)
                count += sizes[group]
        return [row for row in there if self.of[row] in taken]


def group_rows(rows: Iterable[Mapping[str, Any]], by: str | None) -> Groups:
    """Return the groups of processed rows: what has one name, or asks exactly the same, stays together.

    Args:
        rows: in the names of the OpenAI chat format.
        by: where a row names its group; a place that all rows have when not given, if there is one.

    Raises:
        Unusable: a row names no group at the place that was given.
    """
    prompts: list[str] = []
    named: dict[str, list[str | None]] = {place: [] for place in ([by] if by is not None else KNOWN)}
    for number, row in enumerate(rows, start=1):
        prompts.append(prompt_digest(row))
        for name in list(named):
            value = look_up(dict(row), name)
            if value is not MISSING and value is not None:
                named[name].append(f"{name}={value}")
            elif by is not None:
                raise Unusable(f"row {number:,} has no {by}, so that its group is not known")
            else:
                del named[name]
    place = next((one for one, values in named.items() if len(set(values)) >= FEWEST or by is not None), None)
    names: Sequence[str | None] = named[place] if place is not None else [None] * len(prompts)
    return Groups(place, tuple(_joined(prompts, names)))


def prompt_digest(row: Mapping[str, Any]) -> str:
    """Return what two rows share that ask the same: everything before the agent's last words, and the tools."""
    messages = list(row["messages"])
    while messages and messages[-1].get("role") == "assistant":
        messages.pop()
    return _digest([messages, row.get("tools")])


def row_digest(row: Mapping[str, Any]) -> str:
    """Return what two rows share that say the same from beginning to end."""
    return _digest([row["messages"], row.get("tools")])


def _digest(value: Any) -> str:
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    return hashlib.blake2b(orjson.dumps(value, option=options), digest_size=16).hexdigest()


def _joined(prompts: Sequence[str], names: Sequence[str | None]) -> list[str]:
    """Return the group of each row: rows with a prompt or a name in common are one, also through others."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while (above := parent.setdefault(key, key)) != key:
            parent[key] = parent[above]
            key = above
        return key

    for prompt, name in zip(prompts, names, strict=True):
        if name is not None:
            first, second = sorted((root(prompt), root(name)))
            parent[second] = first
    return [root(prompt) for prompt in prompts]
