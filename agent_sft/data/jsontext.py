"""JSON read strictly and exactly, and written as chat templates write it.

A fast parser keeps the last of several equal keys and rounds large integers, and says nothing. Whether it can have
done so is cheap to tell; only then the text is parsed again, slowly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import orjson

SPACED_COLON = re.compile(rb'"[ \t\r\n]+:')
LONG_NUMBER = re.compile(rb"(?:^|[\[:,\s])-?[0-9]{19}")
SHAPES = bytes(
    ord("0") if chr(byte) in "0123456789" else ord(" ") if chr(byte) in "\t\n\r" else byte for byte in range(256)
)
"""Makes every digit a zero and every white space a space."""


def loads(text: str) -> Any:
    """Parse a JSON text exactly: integers of any size are kept, and nothing passes that is not JSON.

    Raises:
        ValueError: saying in words what it is instead.
    """
    try:
        data = text.encode()
        value = orjson.loads(data)
    except (UnicodeEncodeError, orjson.JSONDecodeError):
        return _loads_slowly(text)
    return value if is_exact(data, value) else _loads_slowly(text)


def loads_any(data: bytes) -> Any:
    """Parse JSON fast, also where an escape is half a character, as in logs that cut texts by length.

    Such a row is read so that it alone can be refused, not the file.

    Raises:
        orjson.JSONDecodeError: it is no JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if "surrogate" not in error.msg:
            raise
        try:
            return loads_exactly(data)
        except ValueError:
            raise error from None


def loads_exactly(data: bytes) -> Any:
    """Parse JSON that the fast parser cannot be trusted with.

    Raises:
        ValueError: saying in words what is wrong with it.
    """
    return _decoded(data.decode())


def is_exact(data: bytes, value: Any) -> bool:
    """Tell whether the fast parser can be trusted with `data`, which it parsed to `value`.

    Every key in JSON is a quote and a colon in a row, which stand nowhere else: so many keys must be in the value.
    Where spaces or a backslash blur that count, and where a number is long, the answer is no.
    """
    escaped = data.count(b'\\":')
    if data.count(b'":') - escaped != count_keys(value) or (escaped and b'\\\\":' in data):
        return False
    shapes = data.translate(SHAPES)
    if b"0" * 19 in shapes and LONG_NUMBER.search(data) is not None:
        return False
    return not (b" :" in shapes and SPACED_COLON.search(data) is not None)


def count_keys(value: Any) -> int:
    """Return how many keys all objects in a JSON value have together."""
    if type(value) is dict:
        total = len(value)
        for item in value.values():
            if type(item) is dict or type(item) is list:
                total += count_keys(item)
        return total
    if type(value) is not list:
        return 0
    total = 0
    for item in value:
        if type(item) is dict or type(item) is list:
            total += count_keys(item)
    return total


def _loads_slowly(text: str) -> Any:
    value = _decoded(text)
    try:
        dumps(value).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"JSON with half a character (a lone \\ud800 to \\udfff): {excerpt(text)}") from error
    return value


def _decoded(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg.lower()}): {excerpt(text)}") from error
    except RecursionError as error:
        raise ValueError(f"JSON that is nested too deeply: {excerpt(text)}") from error


def loads_object(text: str) -> dict[str, Any]:
    """Parse the text of an object; an empty text is an empty object, as the OpenAI API writes it.

    Raises:
        ValueError: saying in words what it is instead.
    """
    value = loads(text) if text.strip() else {}
    if not isinstance(value, dict):
        raise ValueError(f"no object: {excerpt(text)}")
    return value


def dumps(value: Any) -> str:
    """Write a value as the `tojson` of chat templates does: spaces after separators, characters as they are."""
    return json.dumps(value, ensure_ascii=False)


def excerpt(text: str) -> str:
    """Return the beginning of a text, quoted, for a message."""
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"an object with the key '{twice}' twice")
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"not JSON: it has no {name}")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
