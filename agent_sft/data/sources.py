"""What data is read from: files of any layout, packed or not, globs, NAME@VERSION, and what another program reads."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent_sft.data.blocks import Cutter
from agent_sft.data.conversation import Origin
from agent_sft.data.eval_logs import is_eval_log, read_eval_log
from agent_sft.data.reading import Rows, open_rows
from agent_sft.data.store import is_reference, resolve
from agent_sft.errors import UserError

Given = str | Path
HUB = "hf:"
"""Before the name of a dataset on the Hugging Face hub, or a folder in a form that `datasets` loads."""

PARQUET = b"PAR1"
GLOB = re.compile(r"[*?\[]")

Opener = Callable[[str, str], Iterator[Any]]
"""Reads what is no JSON, given its kind (`parquet`, `hub`) and its name; row by row."""


@dataclass(frozen=True)
class Source:
    """One place that rows come from."""

    name: str
    """As it is said, and as the origin of rows."""
    path: Path | None
    """The file; None where it is none."""
    _open: Callable[[], Rows]

    def open(self) -> tuple[Iterator[tuple[Origin, Any]], Cutter | None]:
        """Return the rows as `rows` does, and what cuts blocks of them instead.

        Raises:
            UserError: what is there cannot be read.
        """
        opened = self._open()
        return ((Origin(file=self.name, row=number), row) for number, row in opened), opened.cutter

    def rows(self) -> Iterator[tuple[Origin, Any]]:
        """Yield each row with where it came from.

        Raises:
            UserError: what is there cannot be read; in the middle of it, when the rows before were yielded.
        """
        yield from self.open()[0]


def open_sources(given: Iterable[Given], *, opener: Opener | None = None) -> list[Source]:
    """Return the sources that were asked for, globs expanded in the order of names, none of them twice.

    Raises:
        UserError: a file is missing, a glob finds nothing, or there is nobody to read one.
    """
    sources: dict[str, Source] = {}
    for one in given:
        for source in _sources(str(one), opener):
            sources.setdefault(source.name, source)
    if not sources:
        raise UserError("no data was given", fix="name a file, several, or a glob")
    return list(sources.values())


def open_layout(path: Path, *, opener: Opener | None = None) -> Rows:
    """Open one file for reading its rows in the layout that it has; what is no JSON counts as lines.

    Raises:
        UserError: it cannot be read as rows.
    """
    if path.is_file() and (is_eval_log(path) or _begins_with(path, PARQUET)):
        source = _file(path, opener)
        return Rows("lines", ((origin.row, row) for origin, row in source.rows()))
    return open_rows(path)


def _sources(name: str, opener: Opener | None) -> list[Source]:
    if name.startswith(HUB):
        return [_opened(name, None, "hub", name.removeprefix(HUB), opener)]
    if is_reference(name):
        return [replace(_file(resolve(name).path, opener), name=name)]
    path = Path(name)
    if not path.exists() and GLOB.search(name):
        found = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - absolute patterns too
        files = [Path(one) for one in found if Path(one).is_file()]
        if not files:
            raise UserError("no file has such a name", where=name)
        return [_file(one, opener) for one in files]
    if not path.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not path.suffix:
        raise UserError("no such file", where=name, fix=f"if it is a dataset on the hub, write {HUB}{name}")
    return [_file(path, opener)]


def _file(path: Path, opener: Opener | None) -> Source:
    if path.is_file() and is_eval_log(path):
        return Source(str(path), path, lambda: Rows("lines", read_eval_log(path)))
    if path.is_file() and _begins_with(path, PARQUET):
        return _opened(str(path), path, "parquet", str(path), opener)
    return Source(str(path), path, lambda: open_rows(path))


def _opened(name: str, path: Path | None, kind: str, what: str, opener: Opener | None) -> Source:
    if opener is None:
        raise UserError(f"is read by the train environment ({kind}), which this command does not use", where=name)
    return Source(name, path, lambda: Rows("lines", enumerate(opener(kind, what), start=1)))


def _begins_with(path: Path, mark: bytes) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(mark)) == mark
    except OSError:
        return False
