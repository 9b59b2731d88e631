"""Trails: which row each line that a stage wrote came from, so that it can be followed back to the input.

A pipeline leaves a line for each row that it wrote; the preparation leaves one for each row that it read, with what
the row held, what was made of it and what was done. They are what the ledger of a run is put together from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import orjson

from agent_sft.data.amounts import Amounts, amounts_of, measure
from agent_sft.data.conversation import Origin
from agent_sft.data.formats import FORMATS
from agent_sft.data.ledger import encoded
from agent_sft.data.reading import ROW_KEY
from agent_sft.data.rewards import LeftOut
from agent_sft.data.rows import to_row
from agent_sft.data.sharegpt import Example
from agent_sft.data.transforms.chat import json_text
from agent_sft.data.turns import Unusable

TRAILS, PROCESS = "trails", "process.jsonl"
"""The folder of a run's trails, and the pipeline's in it."""


class ProcessTrail:
    """Writes down where the rows come from that a pipeline writes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def note(self, origin: Origin, is_eval: bool) -> None:
        """Note a row that was written, in order."""
        part = {"part": origin.part} if origin.part else {}
        self._stream.write(encoded({"file": origin.file, "row": origin.row, **part, "eval": is_eval}))

    def append(self, lines: bytes) -> None:
        """Take over what was noted elsewhere of the rows that follow."""
        self._stream.write(lines)


class PrepareTrail:
    """Writes down what became of the rows that the preparation read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def note(self, origin: Origin, row: Any, examples: Sequence[Example], ended: Unusable | LeftOut | None) -> None:
        """Note a row that was read, in order, with what was made of it or what ended it."""
        changes: dict[str, int] = {}
        for example in examples:
            for what, count in example.changes.items():
                changes[what] = changes.get(what, 0) + count
        entry: dict[str, Any] = {
            "file": origin.file,
            "row": origin.row,
            "read": measure_given(row, origin),
            "made": [measure_example([turn.text for turn in one.turns], one.system, one.tools) for one in examples],
        }
        if changes:
            entry["changes"] = changes
        if ended is not None:
            entry |= {"reason": str(ended), "left_out": isinstance(ended, LeftOut)}
        self.stream.write(encoded(entry))

    def note_unchanged(self, origin: Origin, row: Any, made: Mapping[str, Any]) -> None:
        """Note a row to which nothing had to be done, with the only row that was made of it."""
        read, written = measure_given(row, origin), measure_prepared(made)
        self.stream.write(encoded({"file": origin.file, "row": origin.row, "read": read, "made": [written]}))

    def append(self, lines: bytes) -> None:
        """Take over what was noted elsewhere of the rows that follow."""
        self.stream.write(lines)


def read_trail(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a trail."""
    with path.open("rb") as lines:
        yield from map(orjson.loads, lines)


def measure_example(texts: Sequence[str], system: str, tools: str) -> Amounts:
    """Return the turns and characters of an example that is trained on; its system text counts as a turn."""
    return amounts_of(len(texts) + bool(system), sum(map(len, texts)) + len(system) + len(tools))


def measure_prepared(row: Mapping[str, Any]) -> Amounts:
    """Return the same of an example as it stands in the data file."""
    texts = [turn["value"] for turn in row[ROW_KEY]]
    return measure_example(texts, row.get("system") or "", row.get("tools") or "")


def measure_given(row: Any, origin: Origin) -> Amounts:
    """Return the turns and characters of a row as it was read, in whatever format.

    Of chats and ShareGPT rows the texts are counted as they stand there; other formats are read first. What is no
    conversation counts all its values, and no turns.
    """
    if not isinstance(row, Mapping):
        return measure({"": row})
    if isinstance(row.get("messages"), list):
        return measure(row)
    if isinstance(turns := row.get(ROW_KEY), list):
        texts = [_text(turn.get("value") if isinstance(turn, Mapping) else turn) for turn in turns]
        return measure_example(texts, _text(row.get("system")), _text(row.get("tools")))
    for form in FORMATS.values():
        if form.recognise(row):
            try:
                return measure(to_row(form.read(row, origin)))
            except Unusable:
                break
    return measure(row)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value) if value else ""
