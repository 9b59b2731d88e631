"""Inspect's `.eval` logs: zip files with a header and one JSON file for each sample."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import zstandard

from agent_sft.data.elements import MAX_ROW_BYTES
from agent_sft.errors import UserError

SAMPLE = re.compile(r"samples/.+\.json")
ZIP = b"PK\x03\x04"
HEADERS = ("header.json", "_journal/start.json")
"""Where a log says what was evaluated: a finished one, and one that is still being written."""


ZSTANDARD = 93
"""The number of the compression in a zip file."""
LOCAL_HEADER = "<4s5H3I2H"
"""What stands before each file's name; the last two are the lengths of the name and of what follows it."""


def is_eval_log(path: Path) -> bool:
    """Tell whether a file is to be read as a log: it is a zip, or is named like one and holds no JSON."""
    try:
        with path.open("rb") as stream:
            first = stream.read(len(ZIP))
    except OSError:
        return False
    return first == ZIP or (path.suffix == ".eval" and not first.lstrip().startswith((b"{", b"[")))


def read_eval_log(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the number, from 1, and each sample, with what was evaluated: `{"sample": {...}, "eval": {...}}`.

    Raises:
        UserError: the log is damaged, or holds no samples.
    """
    if not zipfile.is_zipfile(path):
        what = "is no log of Inspect, which is a zip file, or it is cut off"
        raise UserError(what, where=str(path), fix="copy it again; what is no log must not be named .eval")
    with zipfile.ZipFile(path) as log:
        names = log.namelist()
        if not any(name in HEADERS or SAMPLE.fullmatch(name) for name in names):
            what = "is a zip file, but no log of Inspect"
            raise UserError(what, where=str(path), fix="unpack it, and name the files in it")
        header: Any = next((_read(path, log, name) for name in HEADERS if name in names), {})
        about = header.get("eval", {}) if isinstance(header, dict) else {}
        samples = sorted((name for name in names if SAMPLE.fullmatch(name)), key=_in_order)
        if not samples:
            raise UserError("holds no samples", where=str(path), fix="give the log of a run that did some")
        for number, name in enumerate(samples, start=1):
            yield number, {"sample": _read(path, log, name), "eval": about}


def read_samples(path: Path, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield the names and the samples of a log, `samples/ID_epoch_N.json` each, in the form of `read_eval_log`.

    Names that the log does not have are passed over.

    Raises:
        UserError: the log, or one of these samples, is damaged.
    """
    if not zipfile.is_zipfile(path):
        raise UserError("is no log of Inspect, which is a zip file, or it is cut off", where=str(path))
    with zipfile.ZipFile(path) as log:
        there = frozenset(log.namelist())
        for name in names:
            if name in there:
                yield name, {"sample": _read(path, log, name)}


def _in_order(name: str) -> list[Any]:
    """Sort the numbers in a name as numbers."""
    return [(not part.isdigit(), int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", name) if part]


def _read(path: Path, log: zipfile.ZipFile, name: str) -> Any:
    where = f"{path}, {name}"
    if log.getinfo(name).file_size > MAX_ROW_BYTES:
        raise UserError(f"is longer than {MAX_ROW_BYTES >> 20} MB", where=where, fix="write the log without events")
    try:
        content = _content(path, log, name)
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return _with_constants(content, where)
    except (zipfile.BadZipFile, zlib.error, zstandard.ZstdError, EOFError, NotImplementedError) as error:
        raise UserError(f"cannot be unpacked: {error}", where=where, fix="write it again with inspect") from error


def _with_constants(content: bytes, where: str) -> Any:
    """Parse what has NaN and Infinity in it, which Inspect writes for scores that there are none of: as null."""
    try:
        return json.loads(content, parse_constant=lambda _: None)
    except ValueError as error:
        raise UserError(f"not JSON: {error}", where=where, fix="write it again with inspect") from error


def _content(path: Path, log: zipfile.ZipFile, name: str) -> bytes:
    """Return a file of a log. Inspect compresses them by zstd, which `zipfile` learns with Python 3.14 alone."""
    entry = log.getinfo(name)
    if entry.compress_type != ZSTANDARD:
        return log.read(name)
    with path.open("rb") as stream:
        stream.seek(entry.header_offset)
        lengths = struct.unpack(LOCAL_HEADER, stream.read(struct.calcsize(LOCAL_HEADER)))[-2:]
        stream.seek(sum(lengths), io.SEEK_CUR)
        packed = io.BytesIO(stream.read(entry.compress_size))
    with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
        return reader.read(entry.file_size)
