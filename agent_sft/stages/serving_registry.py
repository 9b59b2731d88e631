"""The servers of this user on this machine: one folder for each, by its name.

server.json   what is served, where, and by which process
api-key       the key, for the user's eyes alone
server.log    what the server said; server.N.log: before its Nth restart, where it is supervised
events.jsonl  when a supervised server came up and died
request.json  what a server that lives on its own was asked for
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sft.engines.served import ServedModel
from agent_sft.errors import UserError, WorkFailed, nearest
from agent_sft.files import read_json, unwritable, write_json
from agent_sft.runs.directory import now
from agent_sft.runs.lock import run_lock
from agent_sft.runs.places import state_folder
from agent_sft.runs.processes import is_alive, process_started
from agent_sft.stages.serving_control import Control

STOP_SECONDS = 120.0
"""How long a server may take to end well, its GPUs' memory included."""


@dataclass(frozen=True)
class Record:
    """A server as its folder describes it."""

    folder: Path
    pid: int
    """The process of ours that it ends with."""
    started: float
    """When that process was started, which tells it from a later one with the same id."""
    host: str
    since: str
    served: dict[str, Any]
    """What is served; empty until the server is ready."""
    supervised: bool = False
    """Whether it is a deployment: started again when it dies."""

    @property
    def name(self) -> str:
        """What requests call the model."""
        return self.folder.name

    @property
    def log(self) -> Path:
        """What the server said."""
        return self.folder / "server.log"

    @property
    def key_file(self) -> Path:
        """The file with the API key."""
        return key_file(self.folder)

    @property
    def state(self) -> str:
        """`starting`, `ready`, `dead` or, where the folder is shared, `on HOST`: asked of the system."""
        if self.host != socket.gethostname():
            return f"on {self.host}"
        if not is_alive(self.pid, self.started):
            return "dead"
        return "ready" if self.served else "starting"

    def as_json(self) -> dict[str, Any]:
        """Return what is told of it, without the key."""
        told = {"name": self.name, "state": self.state, "pid": self.pid, "since": self.since}
        return {**told, "log": str(self.log), "key_file": str(self.key_file), **self.served}

    def model_line(self) -> str:
        """Return where it is served and what, once it is ready."""
        model = self.served["model"]
        return f"{model['url']} ({model['backend']}), {model['path'] or model['name']}"

    def control(self) -> Control:
        """Return a hold on the running server.

        Raises:
            UserError: it is not ready.
        """
        if self.state != "ready":
            raise UserError(f"the server {self.name} is {self.state}", fix="see `agent-sft serve status`")
        model = dict(self.served["model"])
        model["path"] = Path(model["path"]) if model["path"] else None
        model["adapters"] = tuple(model["adapters"])
        return Control(
            model=ServedModel(**model, api_key=self.key_file.read_text(encoding="utf-8")),
            base_name=self.served["base_name"],
            base_folder=Path(self.served["base_folder"]),
            highest_rank=self.served["highest_rank"],
            adapters={name: Path(path) for name, path in self.served["adapters"].items()},
        )

    def write(self, control: Control | None = None) -> None:
        """Write what is served; without `control`, that the server is starting."""
        value: dict[str, Any] = {"pid": self.pid, "started": self.started, "host": self.host, "since": self.since}
        value["supervised"] = self.supervised
        if control is not None:
            model = {name: entry for name, entry in vars(control.model).items() if name != "api_key"}
            model["path"] = str(model["path"]) if model["path"] else None
            value["served"] = {
                "model": model,
                "base_name": control.base_name,
                "base_folder": str(control.base_folder),
                "highest_rank": control.highest_rank,
                "adapters": {name: str(path) for name, path in control.adapters.items()},
            }
            _write_secret(self.key_file, control.model.api_key)
        write_json(self.folder / "server.json", value)

    def remove(self) -> None:
        """Forget the server; its log stays."""
        for name in ("server.json", key_file(self.folder).name, "request.json"):
            (self.folder / name).unlink(missing_ok=True)


def servers_folder() -> Path:
    """Return the folder with a folder for each server."""
    return state_folder() / "servers"


def server_folder(name: str) -> Path:
    """Return the folder of one server, made if it is missing, for its owner alone."""
    folder = servers_folder() / name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def key_file(folder: Path) -> Path:
    """Return the file with the key of the server of a folder."""
    return folder / "api-key"


def all_servers() -> list[Record]:
    """Return the servers that are recorded, by name, those that died among them."""
    folder = servers_folder()
    places = sorted(folder.iterdir()) if folder.is_dir() else []
    return [record for place in places if (record := read_record(place)) is not None]


def read_record(folder: Path) -> Record | None:
    """Return the server whose folder this is; None where there is none."""
    value = read_json(folder / "server.json")
    if not isinstance(value, dict):
        return None
    served, supervised = value.get("served") or {}, bool(value.get("supervised"))
    return Record(folder, value["pid"], value["started"], value["host"], value["since"], served, supervised)


def find_server(name: str | None) -> Record:
    """Return a server by its name; the only one there is where no name is given.

    Raises:
        UserError: there is none of this name, or there are several to choose from.
    """
    known = {record.name: record for record in all_servers()}
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if name in known:
        return known[name]
    if name is None:
        what = "there are several servers" if known else "there is no server"
        raise UserError(what, fix=f"name one of: {', '.join(known)}" if known else "see `agent-sft serve --help`")
    raise UserError(
        f"there is no server '{name}'", fix=nearest(name, known) or f"there are: {', '.join(known) or 'none'}"
    )


def refuse_running(name: str) -> None:
    """Refuse a name that a living server has.

    Raises:
        UserError: saying how to end it.
    """
    record = read_record(servers_folder() / name)
    if record is not None and record.state != "dead":
        raise UserError(
            f"a server called '{name}' runs already",
            where=str(record.folder),
            fix=f"stop it with `agent-sft serve stop {name}`, or choose another --name",
        )


@contextlib.contextmanager
def registered(name: str, *, supervised: bool = False) -> Iterator[tuple[Record, int]]:
    """Record that this process starts the server `name`; yield the record and a lock to hold until all is gone.

    Args:
        name: of the server.
        supervised: whether this process starts it again when it dies.

    Raises:
        UserError: a server of this name runs already.
    """
    folder = server_folder(name)
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(run_lock(folder / ".lock"))
        except UserError:
            refuse_running(name)
            raise
        started, host = process_started(os.getpid()) or 0.0, socket.gethostname()
        record = Record(folder, os.getpid(), started, host, now(), {}, supervised)
        record.write()
        try:
            yield record, lock
        finally:
            record.remove()


def stop_server(record: Record) -> None:
    """End a server and wait until nothing of it is left; a dead one is forgotten.

    Raises:
        WorkFailed: it lives on.
    """
    if record.state.startswith("on "):
        raise UserError(f"the server {record.name} runs {record.state}", fix="stop it there")
    asked = time.monotonic()
    while is_alive(record.pid, record.started):
        waited = time.monotonic() - asked
        with contextlib.suppress(ProcessLookupError):
            if waited > STOP_SECONDS:
                os.kill(record.pid, signal.SIGKILL)  # its keeper ends the rest
            elif waited < 0.05:
                os.kill(record.pid, signal.SIGTERM)
        if waited > STOP_SECONDS + 10:
            raise WorkFailed(f"process {record.pid} of the server {record.name} does not end", log=record.log)
        time.sleep(0.05)
    # Held by whatever is left of it: when it can be had, nothing is.
    with run_lock(record.folder / ".lock"):
        record.remove()


def _write_secret(path: Path, secret: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(secret)
    except OSError as error:
        raise unwritable(path, error) from error
