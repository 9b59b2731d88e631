"""Tables: for a terminal, as Markdown, as comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows of text under a title, with what must be known to read them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def words(self) -> list[bool]:
        """Tell of each column whether it stands on the left, as words do."""
        return [True, *(are_words(row[column] for row in self.rows) for column in range(1, len(self.columns)))]


def are_words(cells: Iterable[str]) -> bool:
    """Tell whether a column of cells is of words, not of numbers with their units and the gaps between them."""
    return any(cell[:1].isalpha() for cell in cells)


def terminal(tables: Sequence[Table]) -> str:
    """Return tables as text for a terminal: numbers are never folded, whatever its width."""
    parts = []
    for table in tables:
        rows = [table.columns, *table.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
        lines = [table.title]
        for row in rows:
            aligned = (
                cell.ljust(width) if words else cell.rjust(width)
                for cell, width, words in zip(row, widths, table.words, strict=True)
            )
            lines.append("  ".join(aligned).rstrip())
        lines += [f"* {note}" for note in table.notes]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def markdown(tables: Sequence[Table]) -> str:
    """Return tables as Markdown."""
    parts = []
    for table in tables:
        lines = [f"**{_escaped(table.title)}**", ""]
        lines.append(_line(table.columns))
        lines.append(_line(["---" if words else "---:" for words in table.words]))
        lines += [_line([_escaped(cell) for cell in row]) for row in table.rows]
        if table.notes:
            lines += ["", *(f"- {_escaped(note)}" for note in table.notes)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def comma_separated(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows, which have the same keys, as CSV with a head; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    for mark in "\\|*_<`":
        text = text.replace(mark, f"\\{mark}")
    return text
