"""Histograms: of blocks for a terminal, as inline SVG for a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

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


def svg_histogram(bins: Sequence[Bin], caption: str) -> str:
    """Return a figure with a bar for each bin, its count above and its first number below."""
    width, height, left, bottom, top = 720, 240, 10, 24, 18
    most = max((count for _, _, count in bins), default=1)
    step = (width - 2 * left) / max(1, len(bins))
    base = height - bottom
    marks = [f'<line x1="{left}" y1="{base}" x2="{width - left}" y2="{base}"/>']
    for number, (start, end, count) in enumerate(bins):
        x = left + number * step
        size = (base - top) * count / most
        title = f"{start:,} to {end - 1:,}: {count:,}"
        marks.append(
            f'<rect x="{x + 1:.1f}" y="{base - size:.1f}" width="{step - 2:.1f}" height="{size:.1f}">'
            f"<title>{title}</title></rect>"
        )
        if count:
            marks.append(
                f'<text x="{x + step / 2:.1f}" y="{base - size - 4:.1f}" text-anchor="middle">{count:,}</text>'
            )
        marks.append(f'<text x="{x:.1f}" y="{height - 8}">{start:,}</text>')
    label = escape(caption, quote=True)
    head = f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{label}">'
    return f"<figure>{head}{''.join(marks)}</svg><figcaption>{escape(caption)}</figcaption></figure>"
