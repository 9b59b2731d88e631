"""What the scheduler and a scorer say to each other: lines added to two files in a server's folder.

queue.jsonl      orders, by the scheduler
outcomes.jsonl   an answer to each, by the scorer
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

QUEUE = "queue.jsonl"
OUTCOMES = "outcomes.jsonl"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a scorer is to do next."""

    what: Literal["warm", "score", "end"]
    """`warm`: serve a model, so that the server is there when it is needed. `end`: nothing comes any more."""
    job: str = ""
    evaluation: dict[str, Any] = {}
    """An `EvaluationConfig`; for `warm` its model is served and nothing evaluated."""
    lora_rank: int | None = None
    """The highest rank of an adapter that is to come; None where none comes."""
    log: str = ""
    """File that gets what is said of it."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """How an order was carried out."""

    job: str
    status: int
    """0 done, 1 it failed, 2 the request is wrong."""
    reason: str | None = None
    """Why it is not done."""
    final: bool = False
    """Whether another try would end alike."""


def write_line(path: Path, line: Order | Answer) -> None:
    """Add a line to one of the two files."""
    with path.open("ab") as stream:
        stream.write(msgspec.json.encode(line) + b"\n")
