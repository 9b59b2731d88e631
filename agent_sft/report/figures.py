"""Histograms: of blocks for a terminal, as inline SVG for a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from agent_sft.report.page import table

Bin = tuple[int, int, int]
"""The first number of a bin, the first one after it, and how many are in it."""

EIGHTHS = " ▏▎▍▌▋▊▉█"


def text_histogram(bins: Sequence[Bin], width: int = 40) -> list[str]:
    """Return a line for each bin, its bar at most `width` columns long."""
    most = max((count for _, _, count in bins), default=0)
    labels = [f"{start:,} to {end - 1:,}" for start, end, _ in bins]
    column = max(map(len, labels), default=0)
    lines = []
    for label, (_, _, count) in zip(labels, bins, strict=True):
        eighths = max(round(8 * width * count / most), 1) if count else 0
        bar = EIGHTHS[8] * (eighths // 8) + EIGHTHS[eighths % 8].strip()
        lines.append(f"{label:>{column}}  {bar} {count:,}" if count else f"{label:>{column}}  0")
    return lines


def svg_histogram(
    bins: Sequence[Bin], caption: str, *, unit: str, counted: str, marks: Sequence[tuple[str, int]] = ()
) -> str:
    """Return a figure with a bar for each bin, axes with their names, and the numbers as a table to unfold.

    Args:
        bins: what is counted.
        caption: what the figure shows, as text.
        unit: the name of the horizontal axis.
        counted: the name of the vertical axis.
        marks: names and places of lines across the figure, such as a median.
    """
    width, height, left, right, top, bottom = 640, 340, 64, 40, 44, 64
    most = max((count for _, _, count in bins), default=1)
    inner, base = width - left - right, height - bottom
    step = inner / max(1, len(bins))
    drawn: list[str] = []
    for tick in _ticks(most):
        y = base - (base - top) * tick / most
        drawn.append(f'<line x1="{left}" y1="{y:.1f}" x2="{width - right}" y2="{y:.1f}"/>')
        drawn.append(f'<text x="{left - 8}" y="{y + 5:.1f}" text-anchor="end">{tick:,}</text>')
    for number, (start, end, count) in enumerate(bins):
        size = (base - top) * count / most
        drawn.append(
            f'<rect x="{left + number * step + 1:.1f}" y="{base - size:.1f}" width="{step - 2:.1f}"'
            f' height="{size:.1f}"><title>{start:,} to {end - 1:,}: {count:,}</title></rect>'
        )
    edges = [*(start for start, _, _ in bins), *(end for _, end, _ in bins[-1:])]
    # A digit is about 9 wide: as many edges are labelled as stand beside each other without touching.
    every = math.ceil((9 * max((len(f"{edge:,}") for edge in edges), default=1) + 14) / step)
    for number in range(0, len(edges), every):
        x = left + number * step
        drawn.append(f'<text x="{x:.1f}" y="{base + 20}" text-anchor="middle">{edges[number]:,}</text>')
    drawn.append(f'<text x="{left + inner / 2:.1f}" y="{height - 14}" text-anchor="middle">{escape(unit)}</text>')
    drawn.append(f'<text x="2" y="16">{escape(counted)}</text>')
    for name, place in marks:
        x = left + inner * (place - edges[0]) / (edges[-1] - edges[0])
        anchor = "end" if x > left + inner / 2 else "start"
        drawn.append(
            f'<g class="mark"><line x1="{x:.1f}" y1="{top - 14}" x2="{x:.1f}" y2="{base}"/>'
            f'<text x="{x:.1f}" y="{top - 22}" text-anchor="{anchor}">{escape(name)} {place:,}</text></g>'
        )
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(caption, quote=True)}">'
    rows = [(f"{start:,} to {end - 1:,}", f"{count:,}") for start, end, count in bins]
    numbers = f"<details><summary>as a table</summary>{table((unit, counted), rows)}</details>"
    return f"<figure>{head}{''.join(drawn)}</svg><figcaption>{escape(caption)}</figcaption>{numbers}</figure>"


def _ticks(most: int) -> list[int]:
    """Return round numbers from 0 up to `most`, some five of them."""
    sizes = (step * 10**exponent for exponent in range(20) for step in (1, 2, 5))
    size = next(size for size in sizes if most // size <= 5)
    return list(range(0, most + 1, size))
