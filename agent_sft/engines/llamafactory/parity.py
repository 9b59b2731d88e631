"""Are the tokens that are trained on those that the server will render for the same conversations?"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agent_sft.engines.environments import call_inside
from agent_sft.engines.llamafactory.encoding import encoding_settings
from agent_sft.engines.llamafactory.facts import INSIDE
from agent_sft.engines.llamafactory.launch import SHARED
from agent_sft.engines.llamafactory.parity_causes import CAUSES, cause_of

SHOWN = 3
"""Differences shown with what is around them."""
CONTEXT = 100
"""Characters shown on each side of a difference."""


@dataclass(frozen=True)
class Parity:
    """What came of a comparison."""

    rows: int
    turns: int
    """Assistant turns, each with its prompt, that were compared."""
    different: int
    """Rows with a difference."""
    toolless: int
    """Rows that call tools which they do not declare."""
    causes: dict[str, int]
    """The causes, and how many of the rows that were looked at closely have it first."""
    differences: tuple[Mapping[str, Any], ...]
    """The first differences: where they are and what is around them."""

    @property
    def equal(self) -> bool:
        """Whether no row differs."""
        return not self.different

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Parity:
        """Return what the program inside the environment found, with the causes named."""
        named = [{**difference, "cause": cause_of(difference, found)} for difference in found["differences"]]
        causes = Counter(difference["cause"] for difference in named)
        return cls(
            rows=found["rows"],
            turns=found["turns"],
            different=found["different"],
            toolless=found["toolless"],
            causes=dict(causes.most_common()),
            differences=tuple(named[:SHOWN]),
        )

    def lines(self) -> Iterator[str]:
        """Return what to print, the verdict first."""
        if self.equal:
            yield f"equal: {self.turns:,} assistant turns of {self.rows:,} conversations, prompt and answer"
        else:
            yield f"different: the server renders {self.different:,} of {self.rows:,} conversations otherwise"
        for name, count in self.causes.items():
            yield f"cause: {name} ({count:,} {'conversation' if count == 1 else 'conversations'}): {CAUSES[name]}"
        for difference in self.differences:
            yield from _shown(difference)
        if self.toolless:
            yield (
                f"note: {self.toolless:,} conversations call tools that they do not declare; a server that is sent"
                " tools lists them in its prompt, and no trained prompt holds such a list"
            )

    def as_json(self) -> dict[str, Any]:
        """Return what a record keeps."""
        return {"equal": self.equal, **vars(self), "differences": [dict(entry) for entry in self.differences]}


def check_parity(
    python: Path, settings: Mapping[str, Any], rows: Sequence[tuple[int, Any]], chat_template: str | None = None
) -> Parity:
    """Compare rows in a program of its own, which takes some 8 s to load the engine.

    Args:
        python: the train environment's.
        settings: LLaMA-Factory's.
        rows: prepared rows with their numbers.
        chat_template: what the server renders by, where it is not the model's own.

    Raises:
        WorkFailed: the tokenizer cannot be loaded, or LLaMA-Factory cannot tokenise a row.
    """
    order = {"settings": encoding_settings(settings), "rows": list(rows), "chat_template": chat_template}
    return Parity.of(call_inside(python, INSIDE / "parity.py", payload=order, timeout=1800, started=SHARED.forked))


def sample_rows(path: Path, count: int, seed: int, most_bytes: int | None = None) -> list[tuple[int, Any]]:
    """Return rows of a prepared file, chosen at random, in their order, with their numbers from 1.

    Args:
        path: JSON lines.
        count: how many.
        seed: the same one chooses the same rows.
        most_bytes: of these rows only as many as fit into this size, and one at least.
    """
    with path.open("rb") as stream:
        total = sum(1 for _ in stream)
    order = random.Random(seed).sample(range(total), min(count, total))  # noqa: S311  nothing secret
    wanted = set(order)
    with path.open("rb") as stream:
        lines = {number: line for number, line in enumerate(stream) if number in wanted}
    taken: list[int] = []
    size = 0
    for number in order:
        size += len(lines[number])
        if taken and most_bytes is not None and size > most_bytes:
            break
        taken.append(number)
    return [(number + 1, orjson.loads(lines[number])) for number in sorted(taken)]


def _shown(difference: Mapping[str, Any]) -> Iterator[str]:
    where = f"row {difference['row']}, {difference['part']} of turn {difference['turn']}"
    if "error" in difference:
        yield f"{where}: {difference['error']}"
        return
    before = difference["before"]["text"][-CONTEXT:]
    yield f"{where}, token {difference['position'] + 1:,} ({difference['cause']})"
    yield f"  both     …{before!r}"
    for side in ("trained", "served"):
        text, tokens = difference[side]["text"][:CONTEXT], difference[side]["tokens"]
        yield f"  {side:<8} {text!r}" if text else f"  {side:<8} (ends)"
        yield f"           tokens {' '.join(map(repr, tokens[:6]))}" if tokens else "           no more tokens"
