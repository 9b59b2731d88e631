"""`agent-sft data stats`: rows, turns, roles, tools, lengths and duplicates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent_sft.cli.data_options import (
    data_argument,
    form_option,
    html_option,
    model_option,
    set_option,
    settings,
    template_option,
)
from agent_sft.cli.show import say

if TYPE_CHECKING:
    from agent_sft.data.statistics import Statistics

MANY = 12000
"""Counting does not truncate: any cutoff does."""
SHARES = (0.5, 0.9, 0.99, 1.0)


@click.command()
@data_argument
@form_option
@html_option
@model_option(required=False)
@template_option
@set_option
def command(
    data: str,
    form: str | None,
    html: Path | None,
    model: str | None,
    template: str,
    set: tuple[str, ...],  # noqa: A002  the option's name
) -> None:
    """Count what is in DATA as it will be trained on. Lengths are in tokens with --model, else in characters."""
    from agent_sft.data.statistics import Histogram, Statistics, quantile
    from agent_sft.files import write_atomic
    from agent_sft.report.figures import svg_histogram, text_histogram
    from agent_sft.report.page import columns, page, section, table
    from agent_sft.stages.checking import lengths
    from agent_sft.stages.looking import looked_at

    statistics = Statistics()
    with looked_at(data, model=model, template=template, form=form, settings=settings(MANY, set)) as look:
        for row in look.rows():
            statistics.add(row)
        tokens = list(lengths(look)) if look.python is not None else None
        counted = statistics.lengths if tokens is None else [total for total, _ in tokens]
        unit = "tokens" if look.python is not None else "characters"
        rejected = look.report.rows_rejected
    sections = {
        "rows": _rows(statistics, rejected),
        "turns by role": [(name, f"{count:,}") for name, count in statistics.roles.most_common()],
        "calls by tool": [(name, f"{count:,}") for name, count in statistics.tools.most_common()],
        f"{unit} of a conversation": _spread(counted) + _loss(tokens or []),
    }
    for title, facts in sections.items():
        click.echo(f"{title}:")
        width = max((len(name) for name, _ in facts), default=0)
        for name, value in facts:
            click.echo(f"  {name:<{width}}  {value:>10}")
    bins = list(Histogram.of(counted).bins())
    for line in text_histogram(bins):
        click.echo(f"  {line}")
    if html is not None:
        blocks = [section(title, table((), facts)) for title, facts in sections.items() if facts]
        median = [("median", quantile(counted, 0.5))] if counted else []
        caption = f"How long the {len(counted):,} conversations are."
        axes = {"unit": f"{unit} of a conversation", "counted": "conversations"}
        figure = svg_histogram(bins, caption, marks=median, **axes)
        write_atomic(html, page(f"Statistics of {Path(data).name}", [figure, columns(blocks)]))
        say(f"page: {html}")


def _rows(statistics: Statistics, rejected: int) -> list[tuple[str, str]]:
    per_row = statistics.turns / statistics.rows if statistics.rows else 0.0
    return [
        ("conversations", f"{statistics.rows:,}"),
        ("rejected rows", f"{rejected:,}"),
        ("turns", f"{statistics.turns:,}"),
        ("turns per conversation", f"{per_row:.1f}"),
        ("characters", f"{statistics.characters:,}"),
        ("duplicates", f"{statistics.duplicates:,} ({statistics.duplicate_rate:.1%})"),
    ]


def _loss(tokens: list[tuple[int, int]]) -> list[tuple[str, str]]:
    all_tokens, loss = sum(total for total, _ in tokens), sum(loss for _, loss in tokens)
    return [("with loss", f"{loss:,} ({loss / all_tokens:.0%})")] if all_tokens else []


def _spread(lengths: list[int]) -> list[tuple[str, str]]:
    from agent_sft.data.statistics import quantile

    names = {0.5: "median", 1.0: "longest"}
    found = [(names.get(share, f"{share:.0%} at most"), f"{quantile(lengths, share):,}") for share in SHARES]
    return [*found, ("all together", f"{sum(lengths):,}")]
