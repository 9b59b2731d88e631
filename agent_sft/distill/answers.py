"""The teacher's answers, kept by what was asked: on the disk before they count, so that nothing is paid for twice."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from agent_sft.engines.chat import Reply
from agent_sft.errors import UserError
from agent_sft.files import unwritable
from agent_sft.runs.directory import now

ANSWERS = "answers.jsonl"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the file."""

    key: str
    """The digest of the request and of whom it went to."""
    at: str
    message: dict[str, Any]
    finish_reason: str | None
    input_tokens: int
    output_tokens: int

    @property
    def reply(self) -> Reply:
        """The answer as it came."""
        return Reply(self.message, self.finish_reason, self.input_tokens, self.output_tokens)


@dataclass
class Spent:
    """What answers have taken."""

    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Of requests and answers together."""
        return self.input_tokens + self.output_tokens

    def cost(self, price_in: float, price_out: float) -> float:
        """Return what they cost, given the prices of a million tokens."""
        return (self.input_tokens * price_in + self.output_tokens * price_out) / 1e6

    def add(self, reply: Reply) -> None:
        """Count one more."""
        self.answers += 1
        self.input_tokens += reply.input_tokens
        self.output_tokens += reply.output_tokens


class Answers:
    """The answers of one folder, and of others that are only read. One process at a time writes."""

    def __init__(self, folder: Path, others: Iterable[Path] = ()) -> None:
        """Open the file, which is made if it is missing; a line that a killed writer left unfinished is cut off.

        Raises:
            UserError: a file cannot be read or written, or is damaged.
        """
        self.spent = Spent()
        """By the answers in `folder`, those of other folders not counted."""
        self._places: dict[str, tuple[IO[bytes], int, int]] = {}
        for other in others:
            if (path := other / ANSWERS).is_file():
                self._index(path.open("rb"), path, counted=False)
        self._path = folder / ANSWERS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+b", buffering=0)
            self._file.truncate(self._index(self._file, self._path, counted=True))
        except OSError as error:
            raise unwritable(self._path, error) from error

    def get(self, key: str) -> Reply | None:
        """Return the answer to a request, if there is one."""
        if key not in self._places:
            return None
        file, begin, length = self._places[key]
        return msgspec.json.decode(os.pread(file.fileno(), length, begin), type=Kept).reply

    def add(self, key: str, reply: Reply) -> None:
        """Keep an answer: it is on the disk when this returns.

        Raises:
            UserError: the disk is full.
        """
        line = msgspec.json.encode(
            Kept(
                key=key,
                at=now(),
                message=reply.message,
                finish_reason=reply.finish_reason,
                input_tokens=reply.input_tokens,
                output_tokens=reply.output_tokens,
            )
        )
        begin = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line + b"\n") <= len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(begin)
            raise unwritable(self._path, error) from error
        self._places[key] = self._file, begin, len(line)
        self.spent.add(reply)

    def _index(self, file: IO[bytes], path: Path, *, counted: bool) -> int:
        """Note where each answer of a file stands; return where its last whole line ends."""
        file.seek(0)
        end = 0
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                kept = msgspec.json.decode(line, type=Kept)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                fix = "take the line out: its prompt is asked again"
                raise UserError(f"is no answer: {error}", where=f"{path}, line {number}", fix=fix) from error
            self._places[kept.key] = file, end, len(line) - 1
            if counted:
                self.spent.add(kept.reply)
            end += len(line)
        return end
