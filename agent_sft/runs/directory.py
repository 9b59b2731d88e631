"""A run's directory: stamps, attempts, journal, and what is set aside. Plain files, nothing overwritten.

run.yaml          the resolved configuration
stages/NAME.json  a stamp for each finished stage: what it was made from, what it made, when
attempts/N/       the logs of every launch
set-aside/N/      what was there before and could not be used, moved out of the way
events.jsonl      one line for each thing that happened
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from agent_sft.errors import UserError
from agent_sft.files import read_json, unwritable, write_json


@dataclass(frozen=True)
class Stamp:
    """What is known of a finished stage."""

    stage: str
    fingerprint: str
    """Digest of everything the stage's outcome depends on."""
    inputs: dict[str, Any]
    """What went into the fingerprint, by name, so that a difference can be named."""
    outputs: dict[str, Any]
    """What the stage made or found."""
    started: str
    finished: str

    def difference(self, inputs: dict[str, Any]) -> str:
        """Name the inputs that are not what they were, in words for the user."""
        names = [name for name in {**self.inputs, **inputs} if self.inputs.get(name) != inputs.get(name)]
        return ", ".join(_describe(name, self.inputs.get(name), inputs.get(name)) for name in names)


@dataclass(frozen=True)
class RunDirectory:
    """The directory of one run, or of one machine's part in it."""

    path: Path

    def stamp(self, stage: str) -> Stamp | None:
        """Return the stamp of `stage`, or None if it has not finished."""
        value = read_json(self.path / "stages" / f"{stage}.json")
        if not isinstance(value, dict):
            return None
        try:
            return Stamp(**value)
        except TypeError:
            return None

    def write_stamp(self, stamp: Stamp) -> None:
        """Record that a stage has finished. The last thing that a stage does."""
        write_json(self.path / "stages" / f"{stamp.stage}.json", vars(stamp))

    def drop_stamp(self, stage: str) -> None:
        """Forget that `stage` had finished. The first thing that a stage does."""
        (self.path / "stages" / f"{stage}.json").unlink(missing_ok=True)

    def new_attempt(self) -> Path:
        """Make and return the folder of the next attempt, counting from 1."""
        return _next_numbered(self.path / "attempts")

    def set_aside(self, paths: Iterable[Path], reason: str) -> Path | None:
        """Move `paths`, those that exist, into a new `set-aside/N/` with the reason beside them.

        Returns:
            The folder they went to, or None when none of them exists.
        """
        present = [path for path in paths if path.exists() or path.is_symlink()]
        if not present:
            return None
        folder = _next_numbered(self.path / "set-aside")
        write_json(folder / "why.json", {"reason": reason, "at": now(), "from": [str(path) for path in present]})
        for path in present:
            shutil.move(path, folder / path.name)
        self.record("set-aside", reason=reason, folder=str(folder), names=[path.name for path in present])
        return folder

    def record(self, event: str, **details: Any) -> None:
        """Append one line to the journal."""
        line = orjson.dumps({"at": now(), "event": event, "pid": os.getpid(), **details}) + b"\n"
        path = self.path / "events.jsonl"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise unwritable(path, error) from error


def check_is_directory(path: Path) -> None:
    """Refuse an output directory that is something else, or lies below something else.

    Raises:
        UserError: naming the file that is in the way.
    """
    for place in (path, *path.parents):
        if place.is_dir():
            return
        if place.exists():
            raise UserError("is a file, not a directory", where=str(place), fix="choose another --output-dir")


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _next_numbered(parent: Path) -> Path:
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = max((int(entry.name) for entry in parent.iterdir() if entry.name.isdigit()), default=0)
        while True:
            number += 1
            try:
                (parent / str(number)).mkdir()
            except FileExistsError:
                continue
            return parent / str(number)
    except OSError as error:
        raise unwritable(parent, error) from error


def _describe(name: str, before: Any, after: Any) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        return ", ".join(_describe(key, before.get(key), after.get(key)) for key in keys)
    if any(str(value).startswith("sha256:") for value in (before, after)):
        return f"{name} is new" if before is None else f"{name} is gone" if after is None else f"{name} changed"
    return f"{name} was {before}, is {after}"
