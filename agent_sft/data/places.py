"""Where files are kept under names that never change their meaning: a folder, or what fsspec reaches by a URL."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from agent_sft.data.folders import new_folder
from agent_sft.errors import UserError
from agent_sft.files import atomic_writer, unwritable


class Place(Protocol):
    """A tree of files. Names are relative, with slashes."""

    where: str
    """As people name it."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where it is missing."""

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none where it is missing."""

    def put_file(self, name: str, source: Path) -> None:
        """Copy a file there, whole or not at all; one that is there with this size stays."""

    def put_new(self, name: str, content: bytes) -> bool:
        """Write a file unless it is there; tell whether it was written."""

    def get_file(self, name: str, target: Path) -> None:
        """Copy a file from there."""


class FolderPlace:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.where = str(folder)

    def path(self, name: str) -> Path:
        """Return where a file is."""
        return self.folder / name

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where it is missing."""
        try:
            return self.path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreadable(str(self.path(name)), error) from error

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none where it is missing."""
        try:
            return sorted(entry.name for entry in self.path(folder).iterdir() if not entry.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _unreadable(str(self.path(folder)), error) from error

    def put_file(self, name: str, source: Path) -> None:
        """Copy a file there, whole or not at all; one that is there with this size stays."""
        path = self.path(name)
        if path.is_file() and path.stat().st_size == source.stat().st_size:
            return
        with new_folder(path.parent), source.open("rb") as given, atomic_writer(path) as stream:
            shutil.copyfileobj(given, stream, 1 << 20)

    def put_new(self, name: str, content: bytes) -> bool:
        """Write a file unless it is there; tell whether it was written. Of several at once, one writes it."""
        path = self.path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
                os.fchmod(stream.fileno(), 0o644)
                os.link(stream.name, path)
        except FileExistsError:
            return False
        except OSError as error:
            raise unwritable(path, error) from error
        return True

    def get_file(self, name: str, target: Path) -> None:
        """Copy a file from there."""
        shutil.copyfile(self.path(name), target)


class UrlPlace:
    """What fsspec reaches. Its stores have no exclusive creation: two pushes of one version must not run at once."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.where = url
        try:
            self._files, self._root = fsspec.core.url_to_fs(url.rstrip("/"))
        except (ImportError, ValueError) as error:
            raise UserError(f"cannot be reached: {error}", where=url) from error

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where it is missing."""
        with self._reaching(name):
            try:
                content = self._files.cat_file(self._at(name))
            except FileNotFoundError:
                return None
            return bytes(content)

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none where it is missing."""
        with self._reaching(folder):
            self._files.invalidate_cache()
            try:
                entries: list[Any] = self._files.ls(self._at(folder), detail=False)
            except FileNotFoundError:
                return []
            return sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in entries)

    def put_file(self, name: str, source: Path) -> None:
        """Copy a file there, whole or not at all; one that is there with this size stays."""
        with self._reaching(name):
            if self._files.exists(self._at(name)) and self._files.size(self._at(name)) == source.stat().st_size:
                return
            self._make_parent(name)
            temporary = f"{self._at(name)}.part"
            try:
                self._files.put_file(str(source), temporary)
                self._files.mv(temporary, self._at(name))
            except BaseException:
                with contextlib.suppress(Exception):  # there may be nothing, or nobody to ask
                    self._files.rm_file(temporary)
                raise

    def put_new(self, name: str, content: bytes) -> bool:
        """Write a file unless it is there; tell whether it was written."""
        with self._reaching(name):
            if self._files.exists(self._at(name)):
                return False
            self._make_parent(name)
            self._files.pipe_file(self._at(name), content)
            return True

    def get_file(self, name: str, target: Path) -> None:
        """Copy a file from there."""
        with self._reaching(name):
            self._files.get_file(self._at(name), str(target))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _make_parent(self, name: str) -> None:
        self._files.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)

    @contextlib.contextmanager
    def _reaching(self, name: str) -> Iterator[None]:
        """Tell what went wrong at the other end as the user's to mend: access, network, a missing object."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # every kind of store has errors of its own
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            what = "no space left there" if full else f"cannot be reached: {type(error).__name__}: {error}"
            raise UserError(what, where=f"{self.where}/{name}") from error


def place_at(where: str) -> Place:
    """Return the place of a folder or a URL.

    Raises:
        UserError: there is no way to reach such a URL.
    """
    return UrlPlace(where) if "://" in where else FolderPlace(Path(where))


def _unreadable(where: str, error: OSError) -> UserError:
    return UserError(f"cannot be read: {error.strerror}", where=where)
