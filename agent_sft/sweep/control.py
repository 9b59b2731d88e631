"""A sweep from another terminal: where it is, whether it runs, and its end."""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from agent_sft.errors import UserError, WorkFailed, nearest
from agent_sft.files import parse_yaml
from agent_sft.report.sweep.record import RECORD
from agent_sft.runs.lock import Holder, holder, is_held

SWEEPS = Path("sweeps")
POLL_SECONDS = 0.1
LOCK = ".lock"
BUSY = "see `agent-sft sweep status`; `agent-sft sweep stop` ends it well"
"""What to do about a sweep that another process runs."""


@dataclass(frozen=True)
class Driver:
    """The process that runs a sweep."""

    folder: Path
    holder: Holder

    @property
    def here(self) -> bool:
        """Whether it runs on this machine."""
        return self.holder.host == socket.gethostname()


def find_sweep(given: Path | None) -> Path:
    """Return the folder of a sweep.

    Args:
        given: its folder or its file; None for this folder, else the only one in `sweeps/`.

    Raises:
        UserError: there is none, or there are several to choose from.
    """
    if given is None and Path(RECORD).is_file():
        return Path()
    if given is None:
        found = sorted(path.parent for path in SWEEPS.glob(f"*/{RECORD}"))
        if len(found) == 1:
            return found[0]
        what = "there is no sweep here" if not found else f"there are {len(found)} sweeps"
        fix = f"name one of them: {', '.join(map(str, found))}" if found else "name a sweep's folder, or its file"
        raise UserError(what, where=str(SWEEPS), fix=fix)
    folder = _folder_of(given) if given.is_file() else given
    if (folder / RECORD).is_file():
        return folder
    if (SWEEPS / given / RECORD).is_file():
        return SWEEPS / given
    known = [path.parent.name for path in SWEEPS.glob(f"*/{RECORD}")]
    hint = nearest(given.name, known) or f"it holds a {RECORD} once the sweep was started"
    raise UserError("there is no sweep here", where=str(folder), fix=hint)


def driver(folder: Path) -> Driver | None:
    """Return the process that runs the sweep now, by the lock it holds; None where nobody does."""
    known = holder(folder / LOCK)
    return Driver(folder, known) if known is not None else None


def stop(running: Driver, seconds: float | None = None) -> None:
    """Ask a sweep to save and end, and wait until nothing of it is left.

    Args:
        running: its process.
        seconds: how long to wait; None for as long as it takes.

    Raises:
        UserError: it runs on another machine.
        WorkFailed: it has not ended in this time.
    """
    if not running.here:
        raise UserError(f"it runs on {running.holder.host}", where=str(running.folder), fix="stop it there")
    os.kill(running.holder.pid, signal.SIGTERM)
    deadline = None if seconds is None else time.monotonic() + seconds
    while is_held(running.folder / LOCK):
        if deadline is not None and time.monotonic() > deadline:
            raise WorkFailed(f"process {running.holder.pid} has not ended after {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


def _folder_of(file: Path) -> Path:
    """Return the folder that a sweep file names."""
    try:
        content = parse_yaml(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError("is no sweep file", where=str(file), fix="name a YAML file, or the sweep's folder") from error
    content = content if isinstance(content, dict) else {}
    return Path(str(content.get("out") or SWEEPS / str(content.get("name") or file.stem)))
