"""Inspect's `.eval` logs: zip files with a header and one JSON file for each sample."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from agent_sft.data.elements import MAX_ROW_BYTES
from agent_sft.errors import UserError

SAMPLE = re.compile(r"samples/.+\.json")
HEADERS = ("header.json", "_journal/start.json")
"""Where a log says what was evaluated: a finished one, and one that is still being written."""


def is_eval_log(path: Path) -> bool:
    """Tell whether a file is a zip with a header or samples where Inspect puts them."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as log:
        return any(name in HEADERS or SAMPLE.fullmatch(name) for name in log.namelist())


def read_eval_log(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the number, from 1, and each sample, with what was evaluated: `{"sample": {...}, "eval": {...}}`.

    Raises:
        UserError: the log is damaged, or holds no samples.
    """
    with zipfile.ZipFile(path) as log:
        names = log.namelist()
        header: Any = next((_read(path, log, name) for name in HEADERS if name in names), {})
        about = header.get("eval", {}) if isinstance(header, dict) else {}
        samples = sorted((name for name in names if SAMPLE.fullmatch(name)), key=_in_order)
        if not samples:
            raise UserError("holds no samples", where=str(path))
        for number, name in enumerate(samples, start=1):
            yield number, {"sample": _read(path, log, name), "eval": about}


def _in_order(name: str) -> list[Any]:
    """Sort the numbers in a name as numbers."""
    return [(not part.isdigit(), int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", name) if part]


def _read(path: Path, log: zipfile.ZipFile, name: str) -> Any:
    where = f"{path}, {name}"
    if log.getinfo(name).file_size > MAX_ROW_BYTES:
        raise UserError(f"is longer than {MAX_ROW_BYTES >> 20} MB", where=where, fix="write the log without events")
    try:
        return orjson.loads(log.read(name))
    except orjson.JSONDecodeError as error:
        raise UserError(f"not JSON: {error}", where=where) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(f"cannot be unpacked: {error}", where=where, fix="write it again with inspect") from error
