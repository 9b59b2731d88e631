"""A page of one HTML file: nothing fetched, no scripts needed, dark on light, from the width of a telephone up.

Colours are those of Okabe and Ito, which people tell apart whatever colours they see; none of them stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from agent_sft.report.tables import are_words

STYLE = """
:root { color-scheme: light; --text: #1b1f24; --soft: #57606a; --line: #d5d9e0; --bar: #0072b2;
        --loss: #d9ecf8; --loss-other: #b5daf0; --plain-other: #f0f1f4; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: #fff;
       max-width: 68rem; margin: 2rem auto; padding: 0 1rem; print-color-adjust: exact; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
h1, h2, p, td, th { overflow-wrap: anywhere; }
.columns { columns: 18rem; column-gap: 3rem; margin-top: 2rem; }
section { break-inside: avoid; padding-bottom: 1.5rem; } .columns h2 { margin-top: 0; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; width: 100%; }
td, th { padding: .2rem .4rem; text-align: right; border-bottom: 1px solid var(--line); font-weight: normal; }
thead th { color: var(--soft); } td:first-child, th:first-child, .words { text-align: left; }
pre { font: 14px/1.8 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere;
      border: 1px solid var(--line); border-radius: 6px; padding: .8rem; }
.o { background: var(--plain-other); } .l { background: var(--loss); border-bottom: 2px solid var(--bar); }
.l.o { background: var(--loss-other); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; padding: 0; list-style: none; color: var(--soft); }
.legend span { font: 14px ui-monospace, "DejaVu Sans Mono", monospace; color: var(--text); padding: .1rem 0; }
.soft, figcaption, summary { color: var(--soft); } figure { margin: 1rem 0; max-width: 40rem; }
svg { width: 100%; height: auto; }
svg text { fill: var(--soft); font: 16px system-ui, sans-serif; } svg rect { fill: var(--bar); }
svg line { stroke: var(--line); } .mark line { stroke: var(--text); stroke-width: 2; stroke-dasharray: 6 4; }
.mark text { fill: var(--text); }
@media (max-width: 30rem) { body { margin: 1rem auto; } pre { padding: .5rem; font-size: 13px; } }
"""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: str) -> str:
    """Return a text as HTML; what is HTML already stays as it is."""
    return value if isinstance(value, Markup) else escape(value)


def page(title: str, body: Sequence[str], *, foot: str = "", style: str = "", script: str = "") -> str:
    """Return a whole HTML document.

    Args:
        title: as text.
        body: HTML, one block an element.
        foot: HTML that stands below the content.
        style: CSS beside that of all pages.
        script: JavaScript; the page must tell everything without it.
    """
    fits = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<meta charset="utf-8">{fits}<title>{escape(title)}</title>'
    content = "\n".join(body)
    end = f"<script>{script}</script>\n" if script else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}<style>{STYLE}{style}</style></head>\n'
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n{content}\n</main>\n{foot}{end}</body>\n</html>\n"
    )


def section(title: str, content: str) -> str:
    """Return a headed block of HTML.

    Args:
        title: as text.
        content: HTML.
    """
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>"


def columns(blocks: Sequence[str]) -> str:
    """Return blocks of HTML side by side, as many as there is room for."""
    return '<div class="columns">\n' + "\n".join(blocks) + "\n</div>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str | None = None) -> str:
    """Return an HTML table; the first column is the one that names its row. Without a header it has none.

    With a caption it can be scrolled sideways where it is wider than the page. Cells are text, or `Markup`.
    """
    width = max(map(len, [header, *rows]), default=0)
    looks = [' class="words"' if are_words(row[column] for row in rows) else "" for column in range(width)]
    head = "".join(f'<th scope="col"{look}>{text(cell)}</th>' for cell, look in zip(header, looks, strict=False))
    lines = [f"<thead><tr>{head}</tr></thead>"] if header else []
    for row in rows:
        cells = "".join(f"<td{look}>{text(cell)}</td>" for cell, look in zip(row[1:], looks[1:], strict=True))
        lines.append(f'<tr><th scope="row">{text(row[0])}</th>{cells}</tr>')
    if caption is None:
        return "<table>\n" + "\n".join(lines) + "\n</table>"
    label = escape(caption, quote=True)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{label}"><table>\n'
        f"<caption>{escape(caption)}</caption>\n" + "\n".join(lines) + "\n</table></div>"
    )
