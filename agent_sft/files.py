"""Files that are either whole or not there: atomic writes, digests, JSON."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any, Self

import orjson

from agent_sft.errors import UserError

COPIED = 1 << 20
"""Bytes that are copied at once."""


@contextmanager
def atomic_writer(path: Path, *, content: IO[bytes] | None = None) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` for writing bytes; flush and rename it onto `path` at the end.

    When the block raises, `path` keeps what it held before and the temporary file is removed.
    The parent folder is made if it is missing.

    Args:
        path: where the file goes.
        content: an `unnamed_file` with which `path` shall begin. Where it lies on the same file system, it is this
            file that gets the name: nothing is copied.

    Raises:
        UserError: the disk is full, or the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, opened = _temporary(path, content)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        with opened as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(path, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def unnamed_file(folder: Path) -> IO[bytes]:
    """Open a file in a folder that has no name, for writing and reading; it is gone when it is closed.

    Unlike one of `tempfile`, it can be given a name (see `atomic_writer`).
    """
    try:
        return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600), "w+b")
    except (AttributeError, OSError):  # another system than Linux, or a file system that has no such files
        return tempfile.TemporaryFile(dir=folder)


def _temporary(path: Path, content: IO[bytes] | None) -> tuple[Path, AbstractContextManager[IO[bytes]]]:
    """Return a temporary file beside `path`, open at the end of what it holds."""
    if content is not None:
        content.flush()
        with suppress(OSError):  # on another file system, or where there are no such files
            linked = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
            # A name is given to what the link leads to, not to the link: with a folder named, Python asks for that.
            os.link(f"/proc/self/fd/{content.fileno()}", linked, src_dir_fd=content.fileno(), follow_symlinks=True)
            content.seek(0, os.SEEK_END)
            return linked, nullcontext(content)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    stream = os.fdopen(descriptor, "wb")
    if content is not None:
        content.seek(0)
        shutil.copyfileobj(content, stream, COPIED)
    return Path(name), stream


class WriteBehind:
    """Has the system write files to the disk while more is written to them: at their end there is less to wait for."""

    def __init__(self, *streams: IO[bytes], each: int = 16 << 20) -> None:
        """Look after open files.

        Args:
            streams: the files.
            each: bytes after which the disk is given what was written.
        """
        self._streams = streams
        self._each = each
        self._count = 0
        self._thread: threading.Thread | None = None

    def wrote(self, count: int) -> None:
        """Say that so many bytes were written."""
        self._count += count
        if self._count >= self._each and (self._thread is None or not self._thread.is_alive()):
            self._count = 0
            self._thread = threading.Thread(target=self._write, daemon=True)
            self._thread.start()

    def _write(self) -> None:
        for stream in self._streams:
            with suppress(OSError):  # comes again, and is told, where the file is finished
                os.fsync(stream.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.join()


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` to `path` in one step (see `atomic_writer`)."""
    with atomic_writer(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON in one step. Keys that are not strings are made strings."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    write_atomic(path, orjson.dumps(value, option=options))


def read_json(path: Path) -> Any:
    """Read a JSON file of our own or an engine's; None where it is missing, empty or damaged."""
    try:
        return orjson.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, orjson.JSONDecodeError):
        return None


def parse_yaml(text: str) -> Any:
    """Return what a YAML text holds, as `yaml.safe_load` does, in a tenth of its time where libyaml is there.

    Raises:
        yaml.YAMLError: it is not YAML, or holds more than plain values.
    """
    # Imported late: most of what reads and writes files has nothing to do with YAML.
    import yaml

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except yaml.YAMLError:
        # libyaml finds the same faults, but tells their places and causes worse.
        return yaml.safe_load(text)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines; none where there is no file.

    What a killed writer left behind the last whole line is left out.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    found = []
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        with contextlib.suppress(orjson.JSONDecodeError):
            found.append(orjson.loads(line))
    return [line for line in found if isinstance(line, dict)]


def digest_file(path: Path) -> str:
    """Return `sha256:` and the hexadecimal digest of a file's content."""
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def digest_value(value: Any) -> str:
    """Return the digest of a JSON-able value, the same whatever the order of its keys."""
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    return f"sha256:{hashlib.sha256(orjson.dumps(value, option=options)).hexdigest()}"


def unwritable(path: Path, error: OSError) -> UserError:
    """Turn the system's refusal to write `path` into an error that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError("no space left on the disk", where=str(path), fix="free some space, then run it again")
    return UserError(f"cannot be written: {error.strerror}", where=str(path), fix="choose another place")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
