"""A report of headed parts that reads the same as Markdown, on a page, and on a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from agent_sft.report.page import page, section
from agent_sft.report.page import table as html_table
from agent_sft.report.sweep.look import STYLE
from agent_sft.report.tables import Table, markdown, terminal

_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Code:
    """Lines that are shown as they are."""

    lines: Sequence[str]


Block = str | Table | Code
"""A paragraph, a table, or lines of code."""


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: Sequence[Block]


def as_markdown(title: str, sections: Sequence[Section]) -> str:
    """Return a report as Markdown."""
    parts = [f"# {title}"]
    for one in sections:
        parts.append(f"## {one.title}")
        for block in one.blocks:
            if isinstance(block, Table):
                parts.append(markdown([block]))
            elif isinstance(block, Code):
                parts.append("\n".join(["```text", *block.lines, "```"]))
            else:
                parts.append(block)
    return "\n\n".join(parts) + "\n"


def as_page(title: str, sections: Sequence[Section]) -> str:
    """Return a report as one HTML file that fetches nothing and needs no scripts."""
    return page(title, [section(one.title, "\n".join(map(_html, one.blocks))) for one in sections], style=STYLE)


def as_text(sections: Sequence[Section]) -> str:
    """Return a report for a terminal."""
    parts = []
    for one in sections:
        parts.append(one.title.upper())
        for block in one.blocks:
            if isinstance(block, Table):
                parts.append(terminal([block]))
            else:
                parts.append("\n".join(f"  {line}" for line in block.lines) if isinstance(block, Code) else block)
    return "\n\n".join(parts)


def _html(block: Block) -> str:
    if isinstance(block, Table):
        notes = "".join(f"<li>{escape(note)}</li>" for note in block.notes)
        header = block.columns if any(block.columns) else ()
        return html_table(header, block.rows, block.title) + (f'<ul class="soft notes">{notes}</ul>' if notes else "")
    if isinstance(block, Code):
        return f"<pre>{escape(chr(10).join(block.lines))}</pre>"
    told = _CODE.sub(r"<code>\1</code>", escape(block))
    return f"<p>{told}</p>"
