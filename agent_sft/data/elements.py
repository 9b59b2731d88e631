"""The elements of a JSON array of any length, one at a time, from a stream of bytes.

Parsing an element is quick once its end is known. Rows of one file mostly begin with the same key, and those bytes
(`{"conversations"`) cannot stand inside a string, where quotes are escaped: the next place where they are found is
tried as the beginning of the next element. A JSON object ends in one place only, so what parses is right; what does
not, because objects inside begin with that key too, is measured bracket by bracket.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import IO, Any, NoReturn

import orjson

from agent_sft.data.blocks import BLOCK, Block
from agent_sft.data.jsontext import is_exact, loads_any, loads_exactly
from agent_sft.errors import UserError

CHUNK = 1 << 20
MAX_ROW_BYTES = 64 << 20
"""Longest row that is read; what is longer is a mistake, or meant to exhaust the memory."""

CUT_OFF = "copy or write it again"
NO_CONSTANTS = "write null in its place, or leave the key out"
NO_TWINS = "leave one of them out, or rename it"
EXPECTED = "give a JSON array of conversations, or one conversation on each line (JSONL)"

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{}]', re.DOTALL)
_HEAD = re.compile(rb'\{\s*"(?:[^"\\]|\\.)*"', re.DOTALL)
_BARE = re.compile(rb'[^\s,:\[\]{}"]+')
_SPACE = re.compile(rb"[ \t\r\n]*")
_COUNTED = 1 << 16
_CONSTANTS = (b"NaN", b"Infinity")


class Elements:
    """Reads JSON from a stream, element by element, and knows where it is.

    Args:
        stream: where more bytes come from.
        where: the file's name, for messages.
        data: what was read from the stream before.
        start: how many bytes came before `data`.
        lines: how many lines came before `data`.
        reopen: opens the same stream once more, from its beginning; without it no blocks can be cut.
    """

    def __init__(
        self,
        stream: IO[bytes],
        where: str,
        data: bytes = b"",
        *,
        start: int = 0,
        lines: int = 0,
        reopen: Callable[[], IO[bytes]] | None = None,
    ) -> None:
        self._stream = stream
        self._where = where
        self._data = data
        self._reopen = reopen
        self._at = 0
        self._start = start
        self._dropped = 0
        self._first_line = lines
        self._lines: int | None = lines
        """How many came before the data; None behind blocks, whose lines are counted only when an error names one."""
        self._forgotten: int | None = 0
        """Characters of the line at hand that were dropped; None where they were too many to count."""
        self._head = b""
        self._number = 0

    def array(self) -> Iterator[tuple[int, Any]]:
        """Yield the number, from 1, and the value of each element of the array that comes next."""
        self._at += 1
        self._number = 0
        if self._next() == b"]":
            self._at += 1
            return
        while True:
            self._number += 1
            yield self._number, self._element(self._number)
            mark = self._next()
            if mark == b"]":
                self._at += 1
                return
            if mark != b",":
                self._refuse("Expecting ',' delimiter", "array")
            self._at += 1
            if not self._next():
                self._refuse("", "array")

    def take(self, after: int) -> Block | None:
        """Return elements that follow one after another as far as their beginnings tell; None where that is not far."""
        if after != self._number or not self._head or self._reopen is None:
            return None
        while len(self._data) - self._at < BLOCK and self._more():
            pass
        at = self._at
        start = self._data.find(self._head, at)
        end = self._data.rfind(self._head, start + 1, max(at + BLOCK, start + 1)) if start >= 0 else -1
        if end < 0:
            end = self._data.find(self._head, start + 1) if start >= 0 else -1
        if end < 0 or self._data[at:start].strip() != b",":
            return None
        mark = self._data.rfind(b",", start, end)
        if mark < 0 or self._data[mark + 1 : end].strip():
            return None
        found = self._data.rfind(self._head, start, mark)
        starts = []
        while found >= start:
            starts.append(found - at)
            found = self._data.rfind(self._head, start, found)  # twice as fast as forwards
        self._lines = None
        data = memoryview(self._data)[at:mark]
        block = Block(data, self._number + 1, len(starts), tuple(reversed(starts)), self._dropped + at)
        self._number += block.count
        self._at = mark
        return block

    def hand_back(self, blocks: Sequence[Block]) -> None:
        """Go back to where the first of some blocks began, the last that were taken."""
        self._data = b"".join([*(block.data for block in blocks), self._data[self._at :]])
        self._at = 0
        self._number = blocks[0].first - 1
        self._dropped = blocks[0].place

    def members(self, streamed: Collection[str]) -> Iterator[tuple[str, Any]]:
        """Yield the keys and values of the object that comes next.

        The array of a key that is in `streamed` is given as an iterator, which has to be used up before the next.
        """
        self._at += 1
        if self._next() == b"}":
            self._at += 1
            return
        while True:
            if self._next() != b'"':
                self._refuse("Expecting property name enclosed in double quotes", "object")
            key = self._value("object", None)
            if self._next() != b":":
                self._refuse("Expecting ':' delimiter", "object")
            self._at += 1
            if self._next() == b"[" and key in streamed:
                yield key, self.array()
            else:
                yield key, self._value("object", None)
            mark = self._next()
            self._at += 1
            if mark == b"}":
                return
            if mark != b",":
                self._at -= 1
                self._refuse("Expecting ',' delimiter", "object")

    def end(self) -> None:
        """Check that nothing follows.

        Raises:
            UserError: something does.
        """
        if self._next():
            self._refuse("Extra data", "array")

    def next_mark(self) -> bytes:
        """Return the next byte that is no space; nothing at the end."""
        return self._next()

    def is_one_value(self) -> bool:
        """Tell whether what was read so far is one object or array, whatever is in it, and nothing else."""
        length = self._measure()
        return length > 0 and not self._data[self._at + length :].strip()

    def rest(self) -> bytes:
        """Return what comes next up to the end, as far as a row can be long."""
        while len(self._data) - self._at <= MAX_ROW_BYTES and self._more():
            pass
        return self._data[self._at :]

    def _element(self, number: int) -> Any:
        """Return the element that comes next, found by how the one before it began."""
        searched = 0
        while self._head and self._data.startswith(self._head, self._at):
            found = self._data.find(self._head, max(self._at + len(self._head), searched))
            if found < 0:
                searched = len(self._data) - self._at - len(self._head)
                if len(self._data) - self._at <= MAX_ROW_BYTES and self._more():
                    continue
                break
            piece = self._data[self._at : found].rstrip()
            if piece.endswith(b","):
                piece = piece[:-1].rstrip()
                try:
                    value = loads_any(piece)
                except orjson.JSONDecodeError:
                    break
                return self._taken(piece, value, number)
            break
        return self._value("array", number)

    def _value(self, inside: str, number: int | None) -> Any:
        """Return the value that comes next, its end found bracket by bracket."""
        while (length := self._measure()) < 0:
            if len(self._data) - self._at > MAX_ROW_BYTES:
                self._too_long(number)
            if not self._more():
                self._cut_off(inside, number)
        piece = self._data[self._at : self._at + length]
        if len(piece) > MAX_ROW_BYTES:
            self._too_long(number)
        if not piece:
            self._refuse("Expecting value", inside)
        try:
            value = loads_any(piece)
        except orjson.JSONDecodeError as error:
            raise self._not_json(piece, error, number) from error
        if head := _HEAD.match(piece):
            self._head = head[0]
        return self._taken(piece, value, number)

    def _taken(self, piece: bytes, value: Any, number: int | None) -> Any:
        if not is_exact(piece, value):
            try:
                value = loads_exactly(piece)
            except ValueError as error:
                raise UserError(f"holds {error}", where=self._place(self._at, number), fix=NO_TWINS) from error
        self._at += len(piece)
        return value

    def _measure(self) -> int:
        """Return the length in bytes of the value that comes next; -1 if it does not end in what is there."""
        first = self._data[self._at : self._at + 1]
        if first not in (b"{", b"[", b'"'):
            bare = _BARE.match(self._data, self._at)
            while bare is not None and bare.end() == len(self._data) and self._more():
                bare = _BARE.match(self._data, self._at)
            return len(bare[0]) if bare is not None else 0
        depth = 0
        for found in _TOKEN.finditer(self._data, self._at):
            token = found[0]
            if token in (b"{", b"["):
                depth += 1
            elif token in (b"}", b"]"):
                depth -= 1
            elif token == b'"':
                return -1
            if depth == 0:
                return found.end() - self._at
        return -1

    def _next(self) -> bytes:
        while True:
            spaces = _SPACE.match(self._data, self._at)
            assert spaces is not None
            self._at = spaces.end()
            if self._at < len(self._data) or not self._more():
                return self._data[self._at : self._at + 1]

    def _more(self) -> bool:
        """Read on, forgetting what was used; tell whether there was more."""
        self._forget()
        chunk = self._stream.read(min(max(CHUNK, len(self._data) - self._at), 16 * CHUNK))
        self._data = b"".join((memoryview(self._data)[self._at :], chunk))
        self._at = 0
        return bool(chunk)

    def _forget(self) -> None:
        if self._at:
            if self._lines is not None:
                self._lines += self._data.count(b"\n", 0, self._at)
                newline = self._data.rfind(b"\n", 0, self._at)
                before = self._forgotten if newline < 0 else 0
                if before is None or before > _COUNTED or self._at - newline > _COUNTED:
                    self._forgotten = None
                else:
                    self._forgotten = before + len(self._data[newline + 1 : self._at].decode("utf-8", "replace"))
            self._dropped += self._at

    def _count_lines(self) -> int:
        """Return how many lines were dropped, and know where in its line the data begins."""
        if self._lines is None:
            assert self._reopen is not None
            self._lines, line, rest = self._first_line, b"", self._dropped
            with self._reopen() as stream:
                stream.read(self._start)
                while chunk := stream.read(min(CHUNK, rest)):
                    rest -= len(chunk)
                    self._lines += chunk.count(b"\n")
                    _, newline, begun = chunk.rpartition(b"\n")
                    line = (begun if newline else line + begun)[: _COUNTED + 1]
            self._forgotten = len(line.decode("utf-8", "replace")) if len(line) <= _COUNTED else None
        return self._lines

    def _line_and_column(self, at: int) -> tuple[int, int | None]:
        """Return line and column, from 1, of a place in the data; no column where the line began long ago."""
        line = self._count_lines() + self._data.count(b"\n", 0, at) + 1
        newline = self._data.rfind(b"\n", 0, at)
        forgotten = self._forgotten if newline < 0 else 0
        if forgotten is None:
            return line, None
        return line, forgotten + len(self._data[newline + 1 : at].decode("utf-8", "replace")) + 1

    def _place(self, at: int, number: int | None = None) -> str:
        line, column = self._line_and_column(at)
        row = "" if number is None else f"row {number}, "
        return f"{self._where}, {row}line {line}, " + (
            f"column {column}" if column is not None else f"byte {self._dropped + at + 1}"
        )

    def _refuse(self, message: str, inside: str) -> NoReturn:
        if not self._next():
            self._cut_off(inside)
        self._check_text(self._data[self._at : self._at + CHUNK], cut=True)
        if self._data.startswith(_CONSTANTS, self._at):
            message = "JSON has no NaN and no Infinity"
        raise UserError(f"not JSON: {message}", where=self._place(self._at), fix=EXPECTED)

    def _cut_off(self, inside: str, number: int | None = None) -> NoReturn:
        self._check_text(self._data[self._at :], number, cut=True)
        what = f"the JSON {inside} is cut off: the file ends in the middle of it"
        raise UserError(what, where=self._place(len(self._data), number), fix=CUT_OFF)

    def _not_json(self, piece: bytes, error: orjson.JSONDecodeError, number: int | None) -> UserError:
        self._check_text(piece, number)
        at = self._at + len(error.doc[: error.pos].encode())
        constant = next((mark for mark in _CONSTANTS if piece.startswith(mark, at - self._at)), None)
        message = f"JSON has no {constant.decode()}" if constant else error.msg
        fix = NO_CONSTANTS if constant else EXPECTED
        return UserError(f"not JSON: {message}", where=self._place(at, number), fix=fix)

    def _check_text(self, piece: bytes, number: int | None = None, *, cut: bool = False) -> None:
        try:
            piece.decode("utf-8")
        except UnicodeDecodeError as error:
            if cut and error.start >= len(piece) - 3:
                return
            line, _ = self._line_and_column(self._at + error.start)
            what = f"is not UTF-8 text: byte 0x{piece[error.start]:02x}"
            row = "" if number is None else f"row {number}, "
            raise UserError(what, where=f"{self._where}, {row}line {line}", fix="save it as UTF-8") from error

    def _too_long(self, number: int | None) -> NoReturn:
        what = f"is longer than {MAX_ROW_BYTES >> 20} MB, which no conversation is"
        raise UserError(what, where=self._place(self._at, number), fix="take it out, or split it")
