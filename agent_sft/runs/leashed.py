"""The far end of a leash: runs one command on this machine for a process on another one (see `leash.py`).

Run as a program, with the address of that process as arguments and, on standard input, a line of JSON with its token
and the GPUs that the command has here. It ends, and all that the command started with it, when the command has ended,
when the connection breaks, and when standard input is closed, which the kernel does when whoever started this dies.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from agent_sft.runs.devices import gpu_variables
from agent_sft.runs.leash import watch
from agent_sft.runs.processes import Child

POLL_SECONDS = 0.05
CONNECT_SECONDS = 20.0


class _Over(Exception):
    """The command is not to run any more, or cannot; with the exit status to tell, if anybody is there to hear it."""

    def __init__(self, status: int | None = None) -> None:
        self.status = status


class FarEndOfLeash:
    """Does what it is told over the connection."""

    def __init__(self, connection: socket.socket, devices: Sequence[str] | None) -> None:
        """Take over a connection on which the token was said already.

        Args:
            connection: to the other process.
            devices: GPUs that the command has, by nvidia-smi's numbers; None where no GPUs are shared out.
        """
        self._connection = connection
        self._devices = devices
        self._heard = b""
        self._child: Child | None = None

    def run(self) -> None:
        """Go on until the command has ended or nobody wants it."""
        try:
            while True:
                for line in self._lines():
                    self._obey(orjson.loads(line))
                if self._child is not None and (status := self._child.poll()) is not None:
                    raise _Over(status)
        except _Over as over:
            if self._child is not None:
                self._child.kill()
            if over.status is not None:
                with suppress(OSError):
                    self._say(ended=over.status)

    def _lines(self) -> list[bytes]:
        """Return what was said; wait a moment for it."""
        ready, _, _ = select.select([self._connection, sys.stdin], [], [], POLL_SECONDS)
        if sys.stdin in ready and not os.read(sys.stdin.fileno(), 4096):
            raise _Over
        if self._connection not in ready:
            return []
        try:
            content = self._connection.recv(1 << 16)
        except OSError as error:
            raise _Over from error
        if not content:
            raise _Over
        *lines, self._heard = (self._heard + content).split(b"\n")
        return lines

    def _obey(self, order: Mapping[str, Any]) -> None:
        if order["do"] == "kill":
            raise _Over(137)
        if order["do"] == "port":
            with socket.socket() as probe:
                probe.bind(("", 0))
                self._say(port=probe.getsockname()[1])
        elif order["do"] == "run":
            self._start(order["command"], order["environment"], Path(order["log"]), Path(order["folder"]))
        elif self._child is not None:
            self._child.terminate()

    def _start(self, command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path) -> None:
        devices = {} if self._devices is None else gpu_variables(self._devices)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            self._child = Child(command, log=log, env={**environment, **devices}, cwd=folder)
        except OSError as error:
            with suppress(OSError), log.open("a", encoding="utf-8") as stream:
                stream.write(f"error: {error.filename or folder}: {error.strerror} on {socket.gethostname()}\n")
            raise _Over(126) from error

    def _say(self, **message: Any) -> None:
        self._connection.sendall(orjson.dumps(message) + b"\n")


def _first_line() -> bytes:
    """Return a line of standard input, and leave what follows where `select` sees it."""
    line = b""
    while not line.endswith(b"\n") and (more := os.read(sys.stdin.fileno(), 1)):
        line += more
    return line


def main(arguments: Sequence[str]) -> int:
    """Hang on the process at HOST PORT."""
    host, port = arguments
    given = orjson.loads(_first_line())
    try:
        connection = socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS)
    except OSError as error:
        sys.stderr.write(f"{host}:{port} cannot be reached from {socket.gethostname()}: {error}\n")
        return 1
    connection.settimeout(None)
    watch(connection)
    with connection:
        greeting = {
            "token": given["token"],
            "host": socket.gethostname(),
            "address": connection.getsockname()[0],
            "devices": given["devices"] or [],
        }
        connection.sendall(orjson.dumps(greeting) + b"\n")
        FarEndOfLeash(connection, given["devices"]).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
