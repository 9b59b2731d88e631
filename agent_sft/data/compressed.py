"""Files as streams of bytes, gzip and zstd taken off; what would unpack without end is stopped."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import IO, Any

import zstandard

from agent_sft.errors import UserError

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
MAX_RATIO = 200
"""Conversations are packed to a fifth, machine-made ones to a fiftieth."""
FREE_BYTES = 64 << 20
"""What may come out before the ratio is looked at."""


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading its content, unpacked; how it is packed is seen from its first bytes.

    Raises:
        UserError: it is missing or cannot be read. Reading raises it where the packed data is damaged or a bomb.
    """
    if path.is_dir():
        raise UserError("is a folder, not a file", where=str(path), fix="name the files in it, or give a glob")
    try:
        stream = io.BufferedReader(io.FileIO(path), 1 << 16)
    except FileNotFoundError as error:
        raise UserError("no such file", where=str(path)) from error
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from error
    first = stream.peek(4)[:4]
    if not first.startswith((GZIP, ZSTD)):
        return stream
    return io.BufferedReader(_Unpacked(stream, str(path), first), 1 << 17)


class _Counted:
    """A stream that counts what is read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(size)
        self.count += len(chunk)
        return chunk


class _Unpacked(io.RawIOBase):
    """The content of a packed stream."""

    def __init__(self, stream: IO[bytes], where: str, first: bytes) -> None:
        self._packed = _Counted(stream)
        self._stream = stream
        self._where = where
        self._count = 0
        counted: Any = self._packed
        self._content: Any
        if first.startswith(GZIP):
            self._content = gzip.GzipFile(fileobj=counted, mode="rb")
        else:
            self._content = zstandard.ZstdDecompressor().stream_reader(counted, read_across_frames=True)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            chunk = self._content.read(len(buffer))
        except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
            raise UserError(f"is damaged: {error}", where=self._where, fix="pack or copy it again") from error
        self._count += len(chunk)
        if self._count > FREE_BYTES and self._count > MAX_RATIO * self._packed.count:
            raise UserError(
                f"unpacks to more than {MAX_RATIO} times its size: that is no data",
                where=self._where,
                fix="unpack it yourself if you trust it",
            )
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self._stream.close()
        super().close()
