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
        value = orjson.loads(text)
    except (UnicodeEncodeError, orjson.JSONDecodeError):
        return _loads_slowly(text)
    return value if is_exact(text, value) else _loads_slowly(text)


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


def is_exact(data: str | bytes, value: Any) -> bool:
    """Tell whether the fast parser can be trusted with `data`, which it parsed to `value`.

    Every text in JSON, a key too, stands between two quotes, and others stand inside of texts: so many of both must be
    in the value. Where that cannot be told, and where a number is so large that it may have been rounded, the answer
    is no.
    """
    texts: list[str] = []
    try:
        keys = gather_texts(value, texts)
    except OverflowError:
        return False
    return has_texts(data, keys + len(texts), "".join(texts))


def has_texts(data: str | bytes, count: int, text: str) -> bool:
    """Tell whether JSON holds so many texts, keys too, and no more, if `text` has all that have quotes in them."""
    quotes = 2 * count + text.count('"')
    if isinstance(data, str):
        return data.count('"') == quotes and "\\u0022" not in data
    return data.count(b'"') == quotes and b"\\u0022" not in data


def gather_texts(value: Any, texts: list[str]) -> int:
    """Put all texts of a JSON value that are no keys into a list; return how many keys there are.

    Raises:
        OverflowError: a number is in it that may have been an integer of more than 64 bits.
    """
    keys = 0
    values = [value]
    for item in values:  # which grows meanwhile
        kind = type(item)
        if kind is str:
            texts.append(item)
        elif kind is dict:
            if len(item) == 2:  # a turn
                first, second = item.values()
                if type(first) is str and type(second) is str:
                    keys += 2
                    texts += (first, second)
                    continue
            keys += len(item)
            values += item.values()
        elif kind is list:
            values += item
        elif kind is float and not -BEYOND_64_BITS < item < BEYOND_64_BITS:
            raise OverflowError
    return keys


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
