"""`agent-sft data check`: what LLaMA-Factory would do with each row, before it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from agent_sft.cli.data_options import (
    cutoff_option,
    data_argument,
    form_option,
    model_option,
    set_option,
    settings,
    template_option,
)

if TYPE_CHECKING:
    from agent_sft.stages.checking import Outlook
    from agent_sft.stages.looking import Look

SHOWN = 20
"""Rows of a kind that are shown; --all shows every one."""


@click.command()
@data_argument
@form_option
@model_option(required=False)
@template_option
@cutoff_option
@click.option(
    "--on-overflow",
    type=click.Choice(["trim", "split", "drop", "error"]),
    default="trim",
    show_default=True,
    help="What the training does with longer ones.",
)
@click.option(
    "--supervise",
    type=click.Choice(["all_assistant", "last_assistant", "final_answer", "tool_calls"]),
    default="all_assistant",
    show_default=True,
    help="The agent's turns that carry loss.",
)
@click.option("--all", "every", is_flag=True, help="Show every row, not the first 20 of a kind.")
@set_option
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Tell what becomes of each row of DATA when it is trained on, and how many examples there will be.

    Exit code 0: every row is trained on, if only in part. 1: of some rows nothing is. 2: DATA cannot be read.
    Without --model no tokens are counted: rows that may be too long are counted by their bytes.
    """
    from agent_sft.data.preparing import NothingUsable
    from agent_sft.stages.checking import look_ahead
    from agent_sft.stages.looking import looked_at

    cutoff: int = options["cutoff_len"]
    asked = settings(cutoff, options["set"])
    try:
        given = {key: options[key] for key in ("model", "template", "form")}
        with looked_at(options["data"], **given, settings=asked) as look:
            outlook = look_ahead(look, cutoff, options["on_overflow"], options["supervise"])
            for line in report(look, outlook, cutoff, None if options["every"] else SHOWN):
                click.echo(line)
            clean = not (look.report.rows_rejected or outlook.lost or outlook.failures)
    except NothingUsable as error:
        click.echo(error)
        clean = False
    if not clean:
        context.exit(1)


def report(look: Look, outlook: Outlook, cutoff: int, shown: int | None) -> Iterator[str]:
    """Yield what is found, one fact a line."""
    from agent_sft.report.numbers import counted

    found = look.report
    yield f"{found.source}: {found.rows_read:,} rows, {found.rows_kept:,} usable, {found.rows_rejected:,} rejected"
    yield f"read as {found.form}"
    for name, change in sorted(found.changes.items()):
        yield f"{name}: {change.conversations:,} conversations"
    for note, count in sorted(found.notes.items()):
        yield f"note: {count:,} conversations {note}"
    yield from _listed("rejected", list(look.rejects()), shown)
    yield from _listed("fails in LLaMA-Factory", outlook.failures, shown)
    if outlook.table is None:
        if outlook.longer:
            yield f"{counted(outlook.longer, 'example')} may be longer than {cutoff:,} tokens: --model counts them"
    else:
        longer = "LLaMA-Factory alone would cut them" if outlook.longer else "nothing is cut"
        yield f"longer than {cutoff:,} tokens: {counted(outlook.longer, 'example')} ({longer})"
    yield from _listed("changed", outlook.changes, shown)
    if outlook.table is not None:
        yield from aligned([outlook.table.header(), *outlook.table.cells()])
    promise = f"LLaMA-Factory will train on {counted(outlook.promised, 'example')}"
    if outlook.table is not None:
        promise += f", {outlook.tokens:,} tokens in one pass, {outlook.loss_tokens:,} of them with loss"
    yield promise


def _listed(what: str, rows: Sequence[tuple[str, str]], shown: int | None) -> Iterator[str]:
    for place, reason in rows[:shown]:
        yield f"{what}: {place}: {reason}"
    if shown is not None and len(rows) > shown:
        yield f"{what}: {len(rows) - shown:,} more (--all shows them)"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows of a table, its columns aligned at the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
