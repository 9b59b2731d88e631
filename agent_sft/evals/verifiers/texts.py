"""What verifiers of text share: the part of an answer that counts, numbers and JSON in it."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator

NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
"""A number in running text: `7`, `-0.5`, `.5`, `1,250.75`, `3e8`."""

_FENCE = re.compile(r"```[\w-]*\n(.*?)```", re.DOTALL)


def _compiled(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return pattern


Pattern = Annotated[str, AfterValidator(_compiled)]
"""A regular expression of Python's `re`, which is checked."""


def counted_part(text: str, pattern: str | None) -> str | None:
    """Return the part of an answer that counts: the last match of `pattern`, its first group where it has one.

    None where the pattern is nowhere in it; without a pattern everything counts.
    """
    if pattern is None:
        return text
    found = list(re.finditer(pattern, text))
    if not found:
        return None
    return (found[-1][1] or "") if found[-1].re.groups else found[-1][0]


def numbers(text: str) -> list[Decimal]:
    """Return the numbers in a text, in order."""
    return [Decimal(match[0].replace(",", "").replace("−", "-")) for match in NUMBER.finditer(text)]


def parse_json(text: str) -> Any:
    """Return the JSON value that a text is, or that its only block between fences is.

    Raises:
        ValueError: it is none.
    """
    blocks = _FENCE.findall(text)
    return orjson.loads(blocks[0] if len(blocks) == 1 else text.strip())


def equal(value: Any, expected: Any) -> bool:
    """Return whether two JSON values are the same: 1 is 1.0, true is not 1, keys come in any order."""
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(equal(value[key], expected[key]) for key in expected)
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(equal, value, expected))
    return bool(value == expected)


def first_difference(value: Any, expected: Any, place: str = "it") -> str:
    """Return in words where two JSON values are not the same."""
    if isinstance(value, dict) and isinstance(expected, dict):
        for key in expected:
            if key not in value:
                return f"{place} lacks '{key}'"
            if not equal(value[key], expected[key]):
                return first_difference(value[key], expected[key], f"'{key}'")
        further = next(key for key in value if key not in expected)
        return f"{place} has '{further}' besides"
    if isinstance(value, list) and isinstance(expected, list):
        if len(value) != len(expected):
            return f"{place} has {len(value)} elements, not {len(expected)}"
        return next(
            first_difference(one, other, f"element {number} of {place}")
            for number, (one, other) in enumerate(zip(value, expected, strict=True), start=1)
            if not equal(one, other)
        )
    return f"{place} is {_shown(value)}, not {_shown(expected)}"


def _shown(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."
