"""`agent-sft data preview`: the exact tokens of a row, and which of them carry loss."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent_sft.cli.data_options import (
    cutoff_option,
    data_argument,
    form_option,
    html_option,
    model_option,
    set_option,
    settings,
    template_option,
)
from agent_sft.cli.show import say


@click.command()
@data_argument
@form_option
@click.option("--row", "rows", type=click.IntRange(min=1), multiple=True, help="Number in DATA.  [default: 1]")
@html_option
@model_option(required=True)
@template_option
@cutoff_option
@set_option
def command(
    data: str,
    form: str | None,
    rows: tuple[int, ...],
    html: Path | None,
    model: str,
    template: str,
    cutoff_len: int,
    set: tuple[str, ...],  # noqa: A002  the option's name
) -> None:
    """Show the tokens of a row of DATA as LLaMA-Factory trains on them, in colour those that carry loss.

    Where the output is no terminal, what carries loss stands between ⟦ and ⟧.
    """
    from agent_sft.engines.llamafactory.encoding import encoded_rows
    from agent_sft.errors import WorkFailed
    from agent_sft.files import write_atomic
    from agent_sft.report.page import page
    from agent_sft.report.tokens import LEGEND, as_html, coloured, figures, plain
    from agent_sft.stages.looking import NAME, looked_at

    body = []
    with looked_at(data, model=model, template=template, form=form, settings=settings(cutoff_len, set)) as look:
        assert look.python is not None
        lines = {line: row for row in rows or (1,) for line in look.examples_of(row)}
        encoding = encoded_rows(look.python, look.folder, NAME, look.settings, rows=list(lines), pieces=True)
        with encoding as (_, found):
            for encoded in found:
                if encoded.error is not None:
                    raise WorkFailed(f"{data}, row {lines[encoded.row]}: {encoded.error}")
                title = f"row {lines[encoded.row]}: {figures(encoded)}"
                say(title)
                if sys.stdout.isatty():
                    from rich.console import Console

                    Console().print(coloured(encoded), soft_wrap=True)
                else:
                    click.echo(plain(encoded))
                body += [f"<h2>{title}</h2>", as_html(encoded)]
    if html is not None:
        how = f"As LLaMA-Factory trains on them: template {template}, model {model}, cutoff {cutoff_len:,} tokens."
        head = [f'<p class="soft">{_escaped(how)}</p>', LEGEND]
        write_atomic(html, page(f"Tokens of {Path(data).name}", [*head, *body]))
        say(f"page: {html}")


def _escaped(text: str) -> str:
    from html import escape

    return escape(text)
