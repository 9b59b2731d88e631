"""Charts as inline SVG: points with intervals, lines, and rows of categories. Text in them stays readable on a phone.

A chart is 420 wide and is shown at 320 to 480 pixels. Series differ in colour, in the mark and in the dashes, so that
none of these is needed. Colours are set by the page's style, by the classes `s0` to `s7`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from agent_sft.report.numbers import MINUS, places_for
from agent_sft.report.page import Markup, table

WIDTH = 420
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 26, 44
KINDS = 8
"""Different marks and colours."""
DODGE = 7
"""Between series with intervals."""
DASHES = ("", "7 4", "2 3", "9 3 2 3")


@dataclass(frozen=True)
class Point:
    """A value, with its interval where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""
    """What it is, for who rests the pointer on it."""


@dataclass(frozen=True)
class Series:
    """Points of one kind."""

    name: str
    points: Sequence[Point]
    kind: int = 0
    """Mark, colour and dashes: 0 to 7, and from the start again."""
    line: bool = True
    faint: bool = False
    """Small marks in the background, such as single seeds behind their mean."""
    marks: bool = True


@dataclass(frozen=True)
class Axis:
    """An axis."""

    name: str
    low: float
    high: float
    ticks: Sequence[float]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return where a value is, from 0 to 1."""
        if self.logarithmic:
            low, high, value = math.log(self.low), math.log(self.high), math.log(max(value, 1e-300))
        else:
            low, high = self.low, self.high
        return (value - low) / (high - low)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers between two values: steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def number_axis(name: str, values: Sequence[float], *, margin: float = 0.05) -> Axis:
    """Return an axis for values; ticks are the values themselves where they are few and stand apart."""
    own = sorted(set(values))
    low, high = own[0], own[-1]
    room = (high - low) * margin or abs(low) or 1.0
    apart = min((b - a for a, b in pairwise(own)), default=1.0)
    few = len(own) <= 8 and (len(own) == 1 or apart > (high - low) / 12)
    return Axis(name, low - room, high + room, own if few else ticks(low, high))


def loss_axis(name: str, values: Sequence[float]) -> Axis:
    """Return an axis for losses: logarithmic where they differ by more than a factor of 20."""
    low, high = min(values), max(values)
    if low > 0 and high / low > 20:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        marks = [10.0**power for power in decades]
        return Axis(name, min(low, marks[0]), max(high, marks[-1]), marks, logarithmic=True)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    bottom = 0.0 if 0 <= low < (high - low) else low - room
    return Axis(name, bottom, high + room, ticks(bottom, high + room))


def chart(title: str, series: Sequence[Series], x: Axis, y: Axis, *, floor: float | None = None) -> Markup:
    """Return a chart as SVG.

    Args:
        title: what it shows, for who cannot see it.
        series: what is drawn, in order.
        x: the horizontal axis.
        y: the vertical axis; its name stands above it.
        floor: a line across the chart, of what doing nothing would give.
    """
    height = 290
    inner, base = WIDTH - LEFT - RIGHT, height - BOTTOM

    def at(point_x: float) -> float:
        return LEFT + inner * x.place(point_x)

    def up(point_y: float) -> float:
        return base - (base - TOP) * y.place(point_y)

    drawn = []
    labels = _labels(y.ticks)
    for tick, label in zip(y.ticks, labels, strict=True):
        level = up(tick)
        drawn.append(f'<line class="grid" x1="{LEFT}" y1="{level:.1f}" x2="{WIDTH - RIGHT}" y2="{level:.1f}"/>')
        drawn.append(f'<text x="{LEFT - 7}" y="{level + 4.5:.1f}" text-anchor="end">{label}</text>')
    for tick, label in zip(x.ticks, _labels(x.ticks), strict=True):
        drawn.append(f'<line class="tick" x1="{at(tick):.1f}" y1="{base}" x2="{at(tick):.1f}" y2="{base + 5}"/>')
        drawn.append(f'<text x="{at(tick):.1f}" y="{base + 19}" text-anchor="middle">{label}</text>')
    drawn.append(f'<line class="axis" x1="{LEFT}" y1="{base}" x2="{WIDTH - RIGHT}" y2="{base}"/>')
    drawn.append(
        f'<text class="name" x="{LEFT + inner / 2}" y="{height - 6}" text-anchor="middle">{escape(x.name)}</text>'
    )
    drawn.append(f'<text class="name" x="2" y="13">{escape(y.name)}</text>')
    if floor is not None and y.low <= floor <= y.high:
        level = up(floor)
        drawn.append(f'<line class="floor" x1="{LEFT}" y1="{level:.1f}" x2="{WIDTH - RIGHT}" y2="{level:.1f}"/>')
        drawn.append(
            f'<text class="soft" x="{WIDTH - RIGHT}" y="{level - 5:.1f}" text-anchor="end">doing nothing</text>'
        )
    # Beside each other, so that none hides another's interval.
    solid = [one for one in series if not one.faint and any(point.low is not None for point in one.points)]
    for one in series:
        same = [number for number, other in enumerate(solid) if other.kind == one.kind]
        shift = (same[0] - (len(solid) - 1) / 2) * DODGE if same else 0.0
        # Single seeds stand outside their mean.
        drawn.append(_drawn(one, at, up, 2.8 * shift if one.faint and shift else shift + 9 * one.faint))
    return _svg(title, height, drawn)


def rows(
    title: str, names: Sequence[str], series: Sequence[Series], axis: Axis, *, floor: float | None = None
) -> Markup:
    """Return a chart with a row for each category, its values along a horizontal axis.

    Args:
        title: what it shows, for who cannot see it.
        names: the categories; `x` of a point is the number of one.
        series: what is drawn; lines are not.
        axis: of the values.
        floor: a line across the chart, of what doing nothing would give.
    """
    step, left = 34, min(190, 14 + 8 * max(map(len, names)))
    height = TOP + step * len(names) + BOTTOM
    inner, base = WIDTH - left - RIGHT, height - BOTTOM
    drawn = []
    for tick, label in zip(axis.ticks, _labels(axis.ticks), strict=True):
        x = left + inner * axis.place(tick)
        drawn.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{base}"/>')
        drawn.append(f'<text x="{x:.1f}" y="{base + 18}" text-anchor="middle">{label}</text>')
    for number, name in enumerate(names):
        short = name if len(name) <= 22 else f"{name[:21]}…"
        y = TOP + step * (number + 0.5)
        drawn.append(
            f'<text x="{left - 8}" y="{y + 4.5:.1f}" text-anchor="end">{escape(short)}'
            f"<title>{escape(name)}</title></text>"
        )
    if floor is not None and axis.low <= floor <= axis.high:
        x = left + inner * axis.place(floor)
        drawn.append(f'<line class="floor" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{base}"/>')
    drawn.append(
        f'<text class="name" x="{left + inner / 2}" y="{height - 6}" text-anchor="middle">{escape(axis.name)}</text>'
    )
    solid = [one for one in series if not one.faint]
    for one in series:
        offset = 0.0 if one.faint or len(solid) == 1 else (solid.index(one) / (len(solid) - 1) - 0.5) * 12
        for point in one.points:
            y = TOP + step * (point.x + 0.5) + offset
            x = left + inner * axis.place(point.y)
            if point.low is not None and point.high is not None and not one.faint:
                low, high = (left + inner * axis.place(end) for end in (point.low, point.high))
                drawn.append(
                    f'<line class="bar s{one.kind % KINDS}" x1="{low:.1f}" y1="{y:.1f}" x2="{high:.1f}" y2="{y:.1f}"/>'
                )
            drawn.append(_mark(one, x, y, point.label))
    return _svg(title, height, drawn)


def key(series: Sequence[Series]) -> Markup:
    """Return what the marks and lines of the series mean, as a list."""
    entries = []
    for one in sorted(series, key=lambda one: one.faint):
        line = f'<line class="line s{one.kind % KINDS}" x1="1" y1="8" x2="33" y2="8"{_dash(one)}/>' if one.line else ""
        mark = _mark(one, 17, 8, "") if one.marks else ""
        entries.append(
            f'<li><svg viewBox="0 0 34 16" width="34" height="16" aria-hidden="true">{line}{mark}</svg>'
            f" {escape(one.name)}</li>"
        )
    return Markup(f'<ul class="key">{"".join(entries)}</ul>')


def figure(
    svg: Markup, caption: str, header: Sequence[str], cells: Sequence[Sequence[str]], legend: Markup | None = None
) -> Markup:
    """Return a chart with its caption, and its numbers as a table to unfold."""
    numbers = f"<details><summary>the numbers</summary>{table(header, cells, caption)}</details>" if cells else ""
    return Markup(f"<figure>{svg}{legend or ''}<figcaption>{escape(caption)}</figcaption>{numbers}</figure>")


def thinned(points: Sequence[tuple[int, float]], most: int = 160) -> list[tuple[int, float]]:
    """Return at most so many points of a curve, evenly chosen, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(number * (len(points) - 1) / (most - 1))] for number in range(most)]


def _drawn(one: Series, at: Callable[[float], float], up: Callable[[float], float], shift: float) -> str:
    shade = f"s{one.kind % KINDS}"
    parts = []
    if one.line and len(one.points) > 1:
        places = " ".join(f"{at(point.x) + shift:.1f},{up(point.y):.1f}" for point in one.points)
        parts.append(f'<polyline class="line {shade}" points="{places}"{_dash(one)}/>')
    for point in one.points:
        x = at(point.x) + shift
        if point.low is not None and point.high is not None and not one.faint:
            low, high = up(point.low), up(point.high)
            parts.append(
                f'<path class="bar {shade}" d="M{x:.1f} {low:.1f}V{high:.1f}'
                f'M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8"/>'
            )
        if one.marks:
            parts.append(_mark(one, x, up(point.y), point.label))
    return "".join(parts)


def _mark(one: Series, x: float, y: float, label: str) -> str:
    r = 2.5 if one.faint else 4.5
    kind = one.kind % 4
    classes = f'class="mark s{one.kind % KINDS}{" open" if one.kind % KINDS >= 4 or one.faint else ""}"'
    title = f"<title>{escape(label)}</title>" if label else ""
    if kind == 0 or one.faint:
        return f'<circle {classes} cx="{x:.1f}" cy="{y:.1f}" r="{r}">{title}</circle>'
    wide = 1.3 * r
    shapes = {
        1: f"M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z",
        2: f"M{x:.1f} {y - 1.2 * r:.1f}l{1.15 * r:.1f} {2 * r:.1f}h{-2.3 * r:.1f}z",
        3: f"M{x:.1f} {y - wide:.1f}l{wide:.1f} {wide:.1f} {-wide:.1f} {wide:.1f} {-wide:.1f} {-wide:.1f}z",
    }
    return f'<path {classes} d="{shapes[kind]}">{title}</path>'


def _dash(one: Series) -> str:
    dash = DASHES[one.kind % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _labels(values: Sequence[float]) -> list[str]:
    """Return ticks as texts, all with as many places as the finest needs."""
    if any(value and (abs(value) >= 1e6 or abs(value) < 1e-3) for value in values):
        return [f"{value:g}".replace("-", MINUS) for value in values]
    steps = [b - a for a, b in pairwise(values) if b > a]
    places = 0 if all(float(value).is_integer() for value in values) else places_for(min(steps), 1) if steps else 2
    if places and all(round(value * 10 ** (places - 1), 6).is_integer() for value in values):
        places -= 1
    return [f"{value:,.{places}f}".replace("-", MINUS) for value in values]


def _svg(title: str, height: float, drawn: Sequence[str]) -> Markup:
    opened = f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img"'
    return Markup(f'{opened} aria-label="{escape(title, quote=True)}">{"".join(drawn)}</svg>')
