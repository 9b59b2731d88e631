"""A page of one HTML file: no scripts, nothing fetched, readable in light and in dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #667; --line: #d5d9e0; --page: #fff; --bar: #3b6fd4;
        --loss: #c9ecc6; --loss-other: #aadca6; --plain-other: #f0f1f4; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e3e6ea; --soft: #9aa; --line: #3a4048; --page: #16191d; --bar: #7aa2f0;
          --loss: #1f5a2b; --loss-other: #2c7439; --plain-other: #22262c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
       max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } p, td, th { overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid var(--line); font-weight: normal; }
th { color: var(--soft); } td:first-child, th:first-child { text-align: left; }
pre { font: 13px/1.7 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere;
      border: 1px solid var(--line); border-radius: 6px; padding: .8rem; }
.o { background: var(--plain-other); } .l { background: var(--loss); } .l.o { background: var(--loss-other); }
.soft, figcaption { color: var(--soft); } figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; } svg rect { fill: var(--bar); }
svg line { stroke: var(--line); }
"""


def page(title: str, body: Sequence[str]) -> str:
    """Return a whole HTML document.

    Args:
        title: as text.
        body: HTML, one block an element.
    """
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    content = "\n".join(body)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}<style>{STYLE}</style></head>\n'
        f"<body>\n<h1>{escape(title)}</h1>\n{content}\n</body>\n</html>\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table; the first column is the one that names its row."""
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>\n" + "\n".join(lines) + "\n</table>"
