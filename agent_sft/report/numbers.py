"""Numbers as people read them."""

from __future__ import annotations

import math

MINUS = "−"
"""As wide as a plus; a hyphen is not."""


def p_value(p: float) -> str:
    """Return a p-value to four places; what is smaller is said to be."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def signed(value: float, places: int) -> str:
    """Return a number with its sign, 0 without one."""
    text = f"{value:+.{places}f}"
    if float(text) == 0:
        return text[1:]
    return text.replace("-", MINUS)


def places_for(spread: float, fewest: int = 2) -> int:
    """Return how many places tell numbers apart that lie in an interval so wide: two digits of its width."""
    return max(fewest, 1 - math.floor(math.log10(spread))) if spread > 0 else fewest


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where that is needed."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def duration(seconds: float) -> str:
    """Return a time as `45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def money(amount: float) -> str:
    """Return an amount in hundredths, a small one with two digits: `12.50`, `0.0033`."""
    places = 1 - math.floor(math.log10(amount)) if 0 < amount < 0.1 else 2
    return f"{amount:.{places}f}"


def size(count: float) -> str:
    """Return a number of bytes in words."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"


def moment(time: str) -> str:
    """Return a time in ISO 8601, UTC, to the minute: `2026-01-31 14:05 UTC`."""
    return f"{time[:10]} {time[11:16]} UTC"


def plain(value: object) -> str:
    """Return a setting's value: numbers without needless zeros."""
    return f"{value:g}" if isinstance(value, float) else str(value)
