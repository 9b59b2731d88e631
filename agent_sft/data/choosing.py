"""Which pipeline fits data, by how their tool calls are recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from agent_sft.data.formats import detect, format_named
from agent_sft.data.hermes import OPEN
from agent_sft.data.opening import LOOKED_AT
from agent_sft.data.sources import Given, Opener, open_sources
from agent_sft.errors import UserError

SHIPPED = Path(__file__).resolve().parents[2] / "configs" / "process"


@dataclass(frozen=True)
class Choice:
    """A pipeline that comes with this repository, and why it is the one."""

    path: Path
    reason: str


def shipped_pipelines() -> list[Path]:
    """Return the pipelines that can be chosen."""
    return sorted(SHIPPED.glob("*.yaml"))


def choose_pipeline(given: Iterable[Given], *, form: str | None = None, opener: Opener | None = None) -> Choice:
    """Return the pipeline for data: `telecom` where calls stand in texts and results are human turns.

    Raises:
        UserError: the data cannot be read, or are no conversations: how to make some has to be said.
    """
    in_text = False
    for source in open_sources(given, opener=opener):
        first = [row for _, row in islice(source.rows(), LOOKED_AT)]
        try:
            if form is None:
                detect(first, source.name)
            else:
                format_named(form)
        except UserError as error:
            raise UserError(
                error.what,
                where=error.where,
                fix="name a pipeline that makes conversations of them (jsonl_to_chat); for a run with --process",
            ) from error
        in_text = in_text or any(_calls_in_text(row) for row in first)
    if in_text:
        return Choice(SHIPPED / "telecom.yaml", "calls stand in the agent's words, results are human turns")
    return Choice(SHIPPED / "airline_retail.yaml", "calls and results are turns of their own")


def _calls_in_text(row: Any) -> bool:
    """Tell whether a row has an agent's text with a call in it, with no turn of its own for the result."""
    turns = row.get("conversations") if isinstance(row, dict) else None
    if not isinstance(turns, list):
        return False
    said = [(turn.get("from"), turn.get("value")) for turn in turns if isinstance(turn, dict)]
    return any(
        first[0] in ("gpt", "assistant")
        and isinstance(first[1], str)
        and OPEN in first[1]
        and second[0] in ("human", "user")
        for first, second in pairwise(said)
    )
