"""A cluster that runs already: which machines it has, and commands placed on them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from agent_sft.engines.environments import call_inside, engine_python
from agent_sft.errors import UserError

INSIDE = Path(__file__).parent / "inside"
LOOK_SECONDS = 180.0
ASK_SECONDS = 60.0
END_SECONDS = 60.0
WHERE = "--executor ray"


@dataclass(frozen=True)
class ClusterNode:
    """A machine of a cluster, as the cluster tells."""

    id: str
    name: str
    address: str
    gpus: int
    cores: int
    here: bool
    """Whether it is the one that this process runs on."""


@dataclass(frozen=True)
class Answer:
    """What a command said on a machine."""

    status: int
    output: str
    """Its standard output, or where it failed the end of its standard error."""


def look(address: str, command: Sequence[str], folder: Path) -> list[tuple[ClusterNode, Answer]]:
    """Return the machines of a cluster, and what a command says on each.

    Args:
        address: HOST:PORT, or `auto` for the cluster that runs on this machine.
        command: runs on every machine.
        folder: to run it in.

    Raises:
        UserError: nobody answers there, or the cluster cannot be used from here.
        WorkFailed: the Ray environment does not work.
    """
    payload = {"address": address, "command": list(command), "folder": str(folder), "seconds": ASK_SECONDS}
    found = call_inside(engine_python("ray"), INSIDE / "nodes.py", payload=payload, timeout=LOOK_SECONDS)
    if "refused" in found:
        raise UserError(found["refused"], where=WHERE, fix=found["fix"])
    return [(_node(node), Answer(**node["asked"])) for node in found["nodes"]]


@dataclass(frozen=True)
class Event:
    """Something that the cluster told."""

    what: str
    """`joined`, `refused`, `nodes` or `over`: see `inside/driver.py`."""
    id: str = ""
    why: str | None = None
    fix: str | None = None
    host: str = ""
    nodes: tuple[ClusterNode, ...] = ()


class Cluster:
    """A connection to a cluster, held by a process in Ray's environment. It ends with this one, and what it placed."""

    def __init__(self, address: str, log: Path, hold: Sequence[int] = ()) -> None:
        """Begin to join; `events` tells whether that worked.

        Args:
            address: HOST:PORT, or `auto`.
            log: file that gets what Ray says.
            hold: descriptors (locks) that stay open until all that was placed is over.

        Raises:
            OSError: it cannot be started.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [str(engine_python("ray")), str(INSIDE / "driver.py"), address]
        with log.open("ab") as stream:
            # It is not killed with us: it sees that we are gone, and goes when all it placed is over.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                pass_fds=tuple(hold),
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                start_new_session=True,
            )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._heard = b""

    @property
    def alive(self) -> bool:
        """Whether the connection lives."""
        return self._process.poll() is None

    def events(self) -> Iterator[Event]:
        """Yield what was told since the last time."""
        stream = self._process.stdout
        assert stream is not None
        while content := _read(stream):
            *lines, self._heard = (self._heard + content).split(b"\n")
            yield from map(_event, lines)

    def place(
        self,
        name: str,
        command: Sequence[str],
        tokens: Sequence[str],
        nodes: Sequence[str | None],
        *,
        gpus: int,
        cores: int,
        on_gpus: bool,
    ) -> None:
        """Have a command run on machines, all of them at once; it starts when they have so much to spare.

        Args:
            name: by which events speak of it; unique.
            command: gets, on standard input, a line of JSON with `token` and `devices`, and ends when that is closed.
            tokens: one for each machine.
            nodes: the machines' ids; None for whichever has so much to spare, all of them different ones.
            gpus: that it takes of each machine.
            cores: that it takes of each machine.
            on_gpus: whether GPUs are what is shared out: it is told which ones it has, be it none.
        """
        self._send(
            do="place",
            id=name,
            command=list(command),
            tokens=list(tokens),
            nodes=list(nodes),
            gpus=gpus,
            cores=cores,
            on_gpus=on_gpus,
        )

    def cancel(self, name: str) -> None:
        """Take back what has not started yet."""
        self._send(do="cancel", id=name)

    def close(self) -> None:
        """End the connection, when all that was placed is over."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _send(self, **order: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is not alive any more, which whoever looks will see
            self._process.stdin.write(orjson.dumps(order) + b"\n")
            self._process.stdin.flush()


def _read(stream: IO[bytes]) -> bytes:
    try:
        return os.read(stream.fileno(), 1 << 16)
    except BlockingIOError:
        return b""


def _event(line: bytes) -> Event:
    said = orjson.loads(line)
    nodes = tuple(map(_node, said.pop("nodes", ())))
    return Event(**said, nodes=nodes)


def _node(told: dict[str, Any]) -> ClusterNode:
    return ClusterNode(**{name: told[name] for name in ("id", "name", "address", "gpus", "cores", "here")})


def failed_to_join(event: Event) -> UserError:
    """Return the error of a cluster that refused."""
    return UserError(str(event.why), where=WHERE, fix=event.fix)
