"""The deployments of this user on this machine: servers that are started again when they die."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agent_sft.engines.endpoint import Refused
from agent_sft.errors import UserError, nearest
from agent_sft.stages.serving_registry import Record, all_servers


@dataclass(frozen=True)
class Deployment:
    """A server under supervision, and what became of it so far."""

    record: Record
    restarts: int
    """How often the server was started again."""
    last_death: str | None
    """Why it died last, with the time."""

    @property
    def state(self) -> str:
        """`answers`, `silent` (it lives and does not answer in ten seconds), `starting`, `dead`, or `on HOST`."""
        if self.record.state != "ready":
            return self.record.state
        try:
            self.record.control().endpoint.models()
        except (OSError, Refused, UserError):
            return "silent"
        return "answers"

    def as_json(self) -> dict[str, Any]:
        """Return what is told of it, without the key."""
        told = {"state": self.state, "restarts": self.restarts, "last_death": self.last_death}
        return self.record.as_json() | told


def all_deployments() -> list[Deployment]:
    """Return what is deployed, by name, what died with its supervisor among it."""
    return [_deployment(record) for record in all_servers() if record.supervised]


def find_deployment(name: str | None) -> Deployment:
    """Return a deployment by its name; the only one there is where no name is given.

    Raises:
        UserError: there is none of this name, or there are several to choose from.
    """
    known = {one.record.name: one for one in all_deployments()}
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if name in known:
        return known[name]
    if name is None:
        what = "several are deployed" if known else "nothing is deployed"
        raise UserError(what, fix=f"name one of: {', '.join(known)}" if known else "see `agent-sft deploy --help`")
    fix = nearest(name, known) or f"there are: {', '.join(known) or 'none'}"
    raise UserError(f"there is no deployment '{name}'", fix=fix)


def log_of(record: Record, death: int | None) -> Path:
    """Return a log: of the server that runs, or of the one that died as the Nth.

    Raises:
        UserError: there is no such log any more, or not yet.
    """
    path = record.log if death is None else record.log.with_suffix(f".{death}{record.log.suffix}")
    if not path.is_file():
        kept = sorted(record.folder.glob(f"{record.log.stem}.[0-9]*{record.log.suffix}"))
        there = ", ".join(each.suffixes[0][1:] for each in kept) or "none"
        raise UserError("there is no such log", where=str(path), fix=f"logs of servers that died: {there}")
    return path


def read_end(path: Path, lines: int) -> tuple[str, int]:
    """Return the last lines of a log, and the place in bytes up to which that is."""
    content = path.read_bytes()
    kept = content.splitlines(keepends=True)[-lines:]
    return b"".join(kept).decode("utf-8", "replace"), len(content)


def _deployment(record: Record) -> Deployment:
    deaths = [event for event in _events(record.folder / "events.jsonl") if event["event"] == "died"]
    mine = [event for event in deaths if event["pid"] == record.pid and event["at"] >= record.since]
    last = f"{mine[-1]['at']}, {mine[-1]['reason']}" if mine else None
    return Deployment(record, len(mine), last)


def _events(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.is_file() else []
