"""Reads files of rows: a JSON array, JSON lines or a result file, told apart by what is in the file.

Whatever the file's size, what is held of it is a few rows.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import orjson

from agent_sft.data.blocks import BLOCK, Block, Cutter
from agent_sft.data.compressed import open_bytes
from agent_sft.data.elements import CHUNK, CUT_OFF, EXPECTED, MAX_ROW_BYTES, NO_CONSTANTS, NO_TWINS, Elements
from agent_sft.data.jsontext import is_exact, loads_any, loads_exactly
from agent_sft.errors import UserError

Layout = Literal["array", "lines"]

ROW_KEY = "conversations"
LONE_KEYS = (ROW_KEY, "messages", "input", "prompt", "instruction", "question", "query")
"""What an object has that is the only row of its file."""

RESULT_FILES = {"simulations": "simulation", "samples": "sample"}
"""Objects around an array that holds the rows: its key, and what one of its elements is called."""


@dataclass(frozen=True)
class Rows:
    """The rows of an open file. Iterating yields the row number, from 1, and the row; once."""

    layout: Layout
    rows: Iterator[tuple[int, Any]]
    cutter: Cutter | None = None
    """Cuts blocks of rows instead; None where they have to be read one by one."""

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return self.rows


def read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the number, from 1, and the content of every row of a file.

    Of a result file (an object with an array of `simulations` or `samples`) each element is a row, which has the
    rest of the object beside it: `{"simulation": {...}, "info": {...}, ...}`.

    Raises:
        UserError: the file is missing, empty, not JSON (with line and column), cut off, or holds something
            else than rows. A damaged row is met when the rows before it were yielded.
    """
    yield from open_rows(path)


def open_rows(path: Path) -> Rows:
    """Open a file of rows and find its layout. Raises what `read_rows` raises."""
    stream = open_bytes(path)
    try:
        return _open(path, stream)
    except BaseException:
        stream.close()
        raise


def _open(path: Path, stream: IO[bytes]) -> Rows:
    where = str(path)
    first, start, blank_lines = _first_line(stream)
    if not first.strip():
        raise UserError("the file is empty", where=where, fix=EXPECTED)
    row = _loads_or_none(first) if first.lstrip().startswith(b"{") else None
    elements = Elements(stream, where, first, start=start, lines=blank_lines, reopen=lambda: open_bytes(path))
    mark = elements.next_mark()
    # What has an end on its line is a row even if it cannot be read: the error then says which one.
    is_row = row is None and mark == b"{" and first.endswith(b"\n") and elements.is_one_value()
    if is_row or (isinstance(row, dict) and not any(isinstance(row.get(key), list) for key in RESULT_FILES)):
        lines = _Lines(where, stream, first, blank_lines)
        return Rows("lines", _closing(stream, lines.rows()), lines)
    if mark == b"[":
        rows = _array(where, elements)
        # The first row is read here, so that a file of something else is told from the start.
        return Rows("array", _closing(stream, _with_first(next(rows), rows)), elements)
    if mark == b"{":
        return Rows("lines", _closing(stream, _object(where, elements)))
    value = _parse(where, elements.rest().strip(), blank_lines + 1)
    raise UserError(f"holds {describe(value)} instead of conversations", where=where, fix=EXPECTED)


def _first_line(stream: IO[bytes]) -> tuple[bytes, int, int]:
    """Return the first line that is not blank, without a byte order mark, and how many bytes and lines came before it.

    What is longer than a row is cut: the rest is still to be read.
    """
    blank = start = 0
    while line := stream.readline(CHUNK):
        content = line.removeprefix(codecs.BOM_UTF8) if blank == 0 else line
        start += len(line) - len(content)
        if content.lstrip().startswith(b"{") and not line.endswith(b"\n"):
            content += stream.readline(MAX_ROW_BYTES)
        if content.strip():
            return content, start, blank
        start += len(content)
        blank += 1
    return b"", start, blank


def _closing(stream: IO[bytes], rows: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    with stream:
        yield from rows


def _with_first(first: tuple[int, Any], rows: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    yield first
    yield from rows


class _Lines:
    """Reads rows that are a line each, and knows where it is."""

    def __init__(self, where: str, stream: IO[bytes], first: bytes, blank_lines: int) -> None:
        self._where = where
        self._stream = stream
        self._data = first
        self._at = 0
        self._line_number = blank_lines
        self._number = 0

    def rows(self) -> Iterator[tuple[int, Any]]:
        """Yield the number, from 1, and the value of each row."""
        while line := self._line():
            self._number += 1
            row = _parse_row(self._where, line, self._line_number, self._number)
            if self._number == 1 and isinstance(row, dict) and self._is_last():
                _check_lone_object(self._where, row)
            yield self._number, row

    def take(self, after: int) -> Block | None:
        """Return the lines that follow, as many as fit into a block; None where none does."""
        if after != self._number:
            return None
        while len(self._data) - self._at < BLOCK and self._more():
            pass
        end = self._data.rfind(b"\n", self._at, self._at + BLOCK) + 1
        if end <= self._at:
            return None
        data = self._data[self._at : end]
        block = Block(data, self._number + 1, data.count(b"\n"), None, self._line_number)
        self._number += block.count
        self._line_number += block.count
        self._at = end
        return block

    def hand_back(self, blocks: Sequence[Block]) -> None:
        """Go back to where the first of some blocks began, the last that were taken."""
        self._data = b"".join([*(block.data for block in blocks), self._data[self._at :]])
        self._at = 0
        self._number = blocks[0].first - 1
        self._line_number = blocks[0].place

    def _line(self) -> bytes:
        """Return the next line that is not blank, cut where no row is as long; nothing at the end."""
        while line := self._next_line():
            self._line_number += 1
            if line.strip():
                break
        return line

    def _next_line(self) -> bytes:
        searched = self._at
        while (end := self._data.find(b"\n", searched) + 1) == 0:
            unfinished = len(self._data) - self._at
            if unfinished > MAX_ROW_BYTES or not self._more():
                end = len(self._data)
                break
            searched = unfinished
        line = self._data[self._at : min(end, self._at + MAX_ROW_BYTES + 1)]
        self._at += len(line)
        return line

    def _is_last(self) -> bool:
        """Tell whether nothing but blank lines follows."""
        while not self._data[self._at :].strip():
            if not self._more():
                return True
        return False

    def _more(self) -> bool:
        """Read on, forgetting what was used; tell whether there was more."""
        chunk = self._stream.read(min(max(CHUNK, len(self._data) - self._at), 16 * CHUNK))
        self._data = self._data[self._at :] + chunk
        self._at = 0
        return bool(chunk)


def _array(where: str, elements: Elements) -> Iterator[tuple[int, Any]]:
    found = False
    held: list[tuple[int, Any]] = []
    for number, row in elements.array():
        if found:
            yield number, row
            continue
        held.append((number, row))
        found = isinstance(row, dict)
        if found or len(held) > _ODD_ROWS:
            found = True
            yield from held
            held = []
    elements.end()
    if found:
        return
    if not held:
        raise UserError("the array holds no rows", where=where, fix=EXPECTED)
    what = f"is an array whose first element is {describe(held[0][1])}, not a conversation"
    raise UserError(what, where=where, fix=EXPECTED)


_ODD_ROWS = 1000
"""How many elements that are no objects are held back until the first that is one."""


def _object(where: str, elements: Elements) -> Iterator[tuple[int, Any]]:
    """Yield the rows of a result file, or the object itself where it is the only row."""
    head: dict[str, Any] = {}
    streamed = False
    for key, value in elements.members(RESULT_FILES):
        if key in RESULT_FILES and isinstance(value, Iterator):
            streamed = True
            number = 0
            for number, row in value:
                yield number, {RESULT_FILES[key]: row, **head}
            if not number:
                raise UserError(f"has no {key}: the array is empty", where=where, fix="give the file of a finished run")
        elif key in head:
            raise UserError(f"holds an object with the key '{key}' twice", where=where)
        else:
            head[key] = value
    elements.end()
    if not streamed:
        _check_lone_object(where, head)
        yield 1, head


def _check_lone_object(where: str, value: Any) -> None:
    for key in RESULT_FILES:
        if isinstance(value, dict) and key in value:
            what = f"has no {key}: they are {describe(value[key])}, not an array"
            raise UserError(what, where=where, fix="give the file of a finished run")
    if isinstance(value, dict) and not any(key in value for key in LONE_KEYS):
        keys = ", ".join(f"'{key}'" for key in list(value)[:5]) or "none"
        raise UserError(f"holds one JSON object that is no conversation (its keys: {keys})", where=where, fix=EXPECTED)


def _loads_or_none(line: bytes) -> Any:
    try:
        return loads_any(line)
    except orjson.JSONDecodeError:
        return None


def _parse_row(where: str, line: bytes, line_number: int, number: int) -> Any:
    if len(line) > MAX_ROW_BYTES:
        what = f"is longer than {MAX_ROW_BYTES >> 20} MB, which no conversation is"
        raise UserError(what, where=f"{where}, row {number}, line {line_number}", fix="take it out, or split it")
    value = _parse(where, line.rstrip(), line_number, ends=line.endswith(b"\n"), number=number)
    if not is_exact(line, value):
        try:
            return loads_exactly(line)
        except ValueError as error:
            place = f"{where}, row {number}, line {line_number}"
            raise UserError(f"holds {error}", where=place, fix=NO_TWINS) from error
    return value


def _parse(where: str, data: bytes, first_line: int, *, ends: bool = False, number: int | None = None) -> Any:
    """Parse `data`, which begins at the line `first_line`; `ends` says that more follows on the next line."""
    try:
        return loads_any(data)
    except orjson.JSONDecodeError as error:
        row = "" if number is None else f"row {number}, "
        raise _not_json(where, data, error, first_line, "line" if ends else "file", row) from error


def _not_json(
    where: str, data: bytes, error: orjson.JSONDecodeError, first_line: int, unit: str, row: str
) -> UserError:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as undecodable:
        line = first_line + data.count(b"\n", 0, undecodable.start)
        what = f"is not UTF-8 text: byte 0x{data[undecodable.start]:02x}"
        return UserError(what, where=f"{where}, {row}line {line}", fix="save it as UTF-8")
    place = f"{where}, {row}line {first_line + error.lineno - 1}, column {error.colno}"
    if error.pos >= len(error.doc.rstrip()) and data.lstrip()[:1] in (b"[", b"{"):
        thing = "array" if data.lstrip().startswith(b"[") else "object"
        return UserError(f"the JSON {thing} is cut off: the {unit} ends in the middle of it", where=place, fix=CUT_OFF)
    constant = next((name for name in ("NaN", "Infinity") if error.doc.startswith(name, error.pos)), None)
    message = f"JSON has no {constant}" if constant else error.msg
    return UserError(f"not JSON: {message}", where=place, fix=NO_CONSTANTS if constant else EXPECTED)


def describe(value: Any) -> str:
    """Return what a JSON value is, in words."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "an array", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")
