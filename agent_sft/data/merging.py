"""The plain merge: consecutive turns of the same role become one, trailing human turns go.

LLaMA-Factory's ShareGPT converter wants roles that alternate and a last turn of the agent; a conversation that
breaks this is dropped there. Only text is put together here: what the merged text means is not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from agent_sft.data.folders import new_folder
from agent_sft.data.reading import ROW_KEY, Layout
from agent_sft.data.sources import Opener, open_layout
from agent_sft.data.turns import HUMAN, ROLES, SUPERVISE_KEYS
from agent_sft.errors import UserError
from agent_sft.files import atomic_writer

JOINT = "\n"
"""What stands between the texts of merged turns."""


@dataclass(frozen=True)
class MergeCounts:
    """What a merge did to a file."""

    conversations: int
    merged: int
    """Conversations with consecutive turns of the same role."""
    trimmed: int
    """Conversations that ended with a human turn."""
    turns_before: int
    turns_after: int
    unchanged: int
    """Rows passed through because they could not be understood."""
    output: Path

    def lines(self) -> list[str]:
        """Return the counts, one fact a line."""
        removed = self.turns_before - self.turns_after
        lines = [
            f"conversations processed: {self.conversations}",
            f"conversations with merged turns: {self.merged}",
            f"conversations with a trimmed trailing human turn: {self.trimmed}",
            f"total turns: {self.turns_before} -> {self.turns_after} ({removed} removed)",
        ]
        if self.unchanged:
            reason = "no list of turns, a value that is not text, or an unknown role"
            lines.append(f"rows passed through unchanged: {self.unchanged} ({reason})")
        return [*lines, f"output: {self.output}"]


def merge_turns(turns: Sequence[dict[str, Any]], roles: Collection[str] = ROLES) -> list[dict[str, Any]]:
    """Return the turns with consecutive ones of the same `from`, one of `roles`, joined by a newline.

    A merged turn keeps the further keys of its parts; where they contradict each other, the first part's.
    """
    merged: list[dict[str, Any]] = []
    for turn in turns:
        if merged and merged[-1]["from"] == turn["from"] and turn["from"] in roles and _same_loss(merged[-1], turn):
            last = merged[-1]
            further = {key: value for key, value in turn.items() if key not in last}
            merged[-1] = {**last, "value": last["value"] + JOINT + turn["value"], **further}
        else:
            merged.append(turn)
    return merged


def _same_loss(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Tell whether two turns say the same of whether they carry loss."""
    return all(first.get(key) == second.get(key) for key in SUPERVISE_KEYS)


def trim_trailing(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the turns without the human ones at the end, which nothing answers."""
    end = len(turns)
    while end and turns[end - 1]["from"] == HUMAN:
        end -= 1
    return list(turns[:end])


def can_merge(row: Any) -> bool:
    """Tell whether a row's turns all have a known role and a text."""
    turns = row.get(ROW_KEY) if isinstance(row, dict) else None
    return isinstance(turns, list) and all(
        isinstance(turn, dict)
        and isinstance(turn.get("from"), str)
        and turn["from"] in ROLES
        and isinstance(turn.get("value"), str)
        for turn in turns
    )


def merge_file(
    source: Path, output: Path, roles: Collection[str] = ROLES, *, opener: Opener | None = None
) -> MergeCounts:
    """Merge and trim every conversation of a file; an array stays an array, JSON lines stay JSON lines.

    Rows that cannot be understood are written as they are, and counted. `output` may be `source`: it is
    replaced in one step when everything is written.

    Raises:
        UserError: `source` cannot be read as rows, or `output` cannot be written.
    """
    if output.is_dir():
        raise UserError("is a folder, not a file", where=str(output), fix="name a file in it")
    rows = open_layout(source, opener=opener)
    total = merged = trimmed = before = after = unchanged = 0
    with new_folder(output.parent), atomic_writer(output) as stream:
        writer = _Writer(stream, rows.layout)
        for _, row in rows:
            total += 1
            if not can_merge(row):
                unchanged += 1
                known = row.get(ROW_KEY) if isinstance(row, dict) else None
                length = len(known) if isinstance(known, list) else 0
                before += length
                after += length
                writer.write(row)
                continue
            turns = row[ROW_KEY]
            joined = merge_turns(turns, roles)
            kept = trim_trailing(joined)
            merged += len(joined) != len(turns)
            trimmed += len(kept) != len(joined)
            before += len(turns)
            after += len(kept)
            writer.write({**row, ROW_KEY: kept})
        writer.end()
    return MergeCounts(total, merged, trimmed, before, after, unchanged, output)


class _Writer:
    """Writes rows one at a time: an indented array, or one row a line."""

    def __init__(self, stream: IO[bytes], layout: Layout) -> None:
        self._stream = stream
        self._array = layout == "array"
        self._started = False

    def write(self, row: Any) -> None:
        if not self._array:
            self._stream.write(_encoded(row, orjson.OPT_APPEND_NEWLINE))
            return
        # A line break inside a JSON text is written as \n: those found here are all between tokens.
        indented = _encoded(row, orjson.OPT_INDENT_2).replace(b"\n", b"\n  ")
        self._stream.write((b",\n  " if self._started else b"[\n  ") + indented)
        self._started = True

    def end(self) -> None:
        if self._array:
            self._stream.write(b"\n]\n")


def _encoded(row: Any, option: int) -> bytes:
    try:
        return orjson.dumps(row, option=option)
    except TypeError:  # half a character, or a number beyond 64 bits
        indent = 2 if option & orjson.OPT_INDENT_2 else None
        return json.dumps(row, indent=indent).encode() + (b"" if indent else b"\n")
