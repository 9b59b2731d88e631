"""`agent-sft data diff`: what became of conversations, turn by turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent_sft.cli.data_options import FILE

if TYPE_CHECKING:
    from agent_sft.data.difference import Part, RowDifference

SHOWN = 5
"""Rows that are shown where none is asked for."""


@click.command()
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@click.option("--row", type=click.IntRange(min=1), help="Show this row of BEFORE alone, what is the same included.")
@click.option("--limit", type=click.IntRange(min=0), default=SHOWN, show_default=True, help="How many rows to show.")
@click.option("--format", "form", help="Insist on a format of BEFORE instead of recognising it.")
def command(before: Path, after: Path, row: int | None, limit: int, form: str | None) -> None:
    """Show what happened to the conversations of BEFORE on their way to AFTER.

    Both are compared as conversations, whatever their formats. The data_report.json that a pipeline leaves beside
    AFTER tells which rows were left out, and which transform did what.
    """
    from agent_sft.data.difference import compare_files
    from agent_sft.errors import UserError

    rows = different = gone = shown = 0
    found = False
    for difference in compare_files(before, after, form=form):
        rows += 1
        different += not difference.is_same
        gone += difference.fate is not None
        if difference.row == row or (row is None and not difference.is_same and shown < limit):
            found, shown = True, shown + 1
            for line in describe(difference, whole=row is not None):
                click.echo(line)
    if row is not None and not found:
        raise UserError(f"there are {rows:,} rows", where=f"{before}, row {row}")
    if row is None:
        click.echo(f"{rows:,} rows: {rows - different:,} say the same, {different:,} differ, {gone:,} of them are gone")
        if shown < different:
            click.echo(f"shown: {shown:,} (--limit, --row)")


def describe(difference: RowDifference, *, whole: bool) -> Iterator[str]:
    """Yield the lines that show what became of a row; without `whole`, of what is the same only how much it is."""
    yield click.style(f"row {difference.row}", bold=True)
    yield from (click.style(f"  {line}", fg="cyan") for line in difference.done)
    if difference.fate is not None:
        yield click.style(f"  {difference.fate}", fg="red")
    same = 0
    for part in difference.parts:
        if part.deed == "same" and not whole:
            same += 1
            continue
        if same:
            yield _same(same)
            same = 0
        yield from _part(part)
    if same:
        yield _same(same)


def _same(count: int) -> str:
    return click.style(f"    … {count} the same", dim=True)


def _part(part: Part) -> Iterator[str]:
    from difflib import SequenceMatcher

    if part.deed == "same":
        yield click.style(f"    {part.title}", dim=True)
        yield from (click.style(f"      {line}", dim=True) for line in (part.after or "").split("\n"))
        return
    mark, colour = {"removed": ("-", "red"), "added": ("+", "green"), "changed": ("~", "yellow")}[part.deed]
    yield click.style(f"  {mark} {part.title}", fg=colour, bold=True)
    old = part.before.split("\n") if part.before is not None else []
    new = part.after.split("\n") if part.after is not None else []
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            yield from (click.style(f"      {line}", dim=True) for line in old[a:b])
            continue
        yield from (click.style(f"    - {line}", fg="red") for line in old[a:b])
        yield from (click.style(f"    + {line}", fg="green") for line in new[c:d])
