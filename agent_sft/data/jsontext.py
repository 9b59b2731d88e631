"""JSON read strictly and exactly, and written as chat templates write it.

A fast parser keeps the last of several equal keys and rounds large integers, and says nothing. Whether it can have
done so is cheap to tell; only then the text is parsed again, slowly.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

import orjson

BEYOND_64_BITS = 2.0**63
"""From here on a number may have been an integer that was rounded."""


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


def loads_all(data: bytes) -> Any:
    """Parse JSON fast where that is exact, and exactly where it is not.

    Raises:
        ValueError: it is no JSON, or a key stands twice in an object.
    """
    value = loads_any(data)
    return value if is_exact(data, value) else loads_exactly(data)


def is_exact(data: bytes, value: Any) -> bool:
    """Tell whether the fast parser can be trusted with `data`, which it parsed to `value`.

    Every text in JSON, a key too, stands between two quotes, and quotes inside a text have a backslash before them: so
    many texts must be in the value. Where a number is so large that it may have been rounded, the answer is no.
    """
    if b"\\\\" in data:
        data = data.replace(b"\\\\", b"")  # what is left before a quote escapes it
    try:
        return data.count(b'"') - data.count(b'\\"') == 2 * count_texts(value)
    except (OverflowError, RecursionError):
        return False


def count_texts(value: Any) -> int:
    """Return how many texts are in a JSON value, keys counted.

    Raises:
        OverflowError: a number is in it that may have been an integer of more than 64 bits.
    """
    total = 0
    items: Any
    if type(value) is dict:
        total, items = len(value), value.values()
    elif type(value) is list:
        items = value
    else:
        items = (value,)
    for item in items:
        kind = type(item)
        if kind is str:
            total += 1
        elif kind is dict:
            total += len(item)
            if len(item) == 2:  # a turn
                first, second = item.values()
                if type(first) is str and type(second) is str:
                    total += 2
                    continue
            for inner in item.values():
                total += 1 if type(inner) is str else count_texts(inner)
        elif kind is list:
            total += count_texts(item)
        elif kind is float and not -BEYOND_64_BITS < item < BEYOND_64_BITS:
            raise OverflowError
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
