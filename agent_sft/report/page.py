"""A page of one HTML file: no scripts, nothing fetched, dark on light, from the width of a telephone up.

Colours are those of Okabe and Ito, which people tell apart whatever colours they see; none of them stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

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
th { color: var(--soft); } td:first-child, th:first-child { text-align: left; }
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


def page(title: str, body: Sequence[str]) -> str:
    """Return a whole HTML document.

    Args:
        title: as text.
        body: HTML, one block an element.
    """
    fits = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<meta charset="utf-8">{fits}<title>{escape(title)}</title>'
    content = "\n".join(body)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}<style>{STYLE}</style></head>\n'
        f"<body>\n<h1>{escape(title)}</h1>\n{content}\n</body>\n</html>\n"
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


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table; the first column is the one that names its row. Without a header it has none."""
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>"] if header else []
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>\n" + "\n".join(lines) + "\n</table>"
