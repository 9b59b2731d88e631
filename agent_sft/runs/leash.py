"""Commands on other machines that end with us, however we end: each hangs on a connection to this process.

At the other end is `agent_sft.runs.leashed`, which somebody starts there and gives our address and a token. It gets the
command over the connection, so that neither the command nor its environment passes through anybody else's hands, and
tells how it ended. When the connection breaks, both sides know: there everything is killed, here it is lost.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import selectors
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

SILENCE_SECONDS = 20
"""After this long without a sign of the other side's kernel a connection counts as broken, on both sides."""
POLL_SECONDS = 0.05
LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class FarEnd:
    """Who is at the other end."""

    host: str
    """Its machine's name."""
    address: str
    """At which other machines reach it."""
    devices: tuple[str, ...]
    """GPUs that it was given, by the numbers that it was given."""


class Leash:
    """A command on another machine, as seen from here."""

    def __init__(self, pump: Callable[[], None], close: Callable[[socket.socket], None]) -> None:
        """Make one that nobody hangs on yet.

        Args:
            pump: looks what has come.
            close: closes a connection, and calls `closed`.
        """
        self.token = secrets.token_hex(16)
        self.far: FarEnd | None = None
        """Who has come; None as long as nobody has."""
        self.status: int | None = None
        """The exit status, once it has ended."""
        self.broken = False
        """Whether the connection broke before the command ended."""
        self.port: int | None = None
        """A port that was free there, where one was asked for."""
        self._pump, self._close = pump, close
        self._asked = False
        self._connection: socket.socket | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self.status is not None or self.broken

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path) -> None:
        """Have it run a command; see `Child`.

        Args:
            command: program and arguments.
            environment: all of it, but for the devices, which are set there.
            log: file that gets its output.
            folder: to run in.
        """
        self._send(do="run", command=command, environment=environment, log=str(log), folder=str(folder))

    def ask_port(self) -> None:
        """Have it look for a free port, which `port` then has."""
        if not self._asked:
            self._asked = True
            self._send(do="port")

    def terminate(self) -> None:
        """Ask the command to save and end."""
        self._send(do="term")

    def kill(self, seconds: float = SILENCE_SECONDS) -> None:
        """End it and all that it started; wait until none of it is left, or this long where nobody answers."""
        self._send(do="kill")
        deadline = time.monotonic() + seconds
        while self._connection is not None and not self.over and time.monotonic() < deadline:
            self._pump()
            time.sleep(POLL_SECONDS)
        self.let_go()

    def let_go(self) -> None:
        """Close the connection: whatever of it lives is killed there."""
        if self._connection is not None:
            self._close(self._connection)
        self.closed()

    def closed(self) -> None:
        """Take note that the connection is closed."""
        self._connection = None
        self.broken = self.status is None

    def attach(self, connection: socket.socket, far: FarEnd) -> None:
        """Take the connection of the one who has come."""
        self._connection, self.far = connection, far

    def heard(self, message: Mapping[str, Any]) -> None:
        """Take note of what was said at the other end."""
        self.status = message.get("ended", self.status)
        self.port = message.get("port", self.port)

    def _send(self, **message: Any) -> None:
        if self._connection is None:
            return
        try:
            self._connection.sendall(orjson.dumps(message) + b"\n")
        except OSError:
            self.let_go()


class Leashes:
    """Waits for those that come, and hears what they say; nothing happens unless `pump` is called."""

    def __init__(self, host: str) -> None:
        """Listen.

        Args:
            host: address of this machine at which the others reach it.

        Raises:
            OSError: it is none of this machine's.
        """
        self._listener = socket.create_server((host, 0), backlog=1024)
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._expected: dict[str, Leash] = {}
        self._known: dict[socket.socket, Leash | None] = {}
        self._heard: dict[socket.socket, bytes] = {}

    def expect(self) -> Leash:
        """Return a leash for one who will come with its token."""
        leash = Leash(self.pump, self._ends)
        self._expected[leash.token] = leash
        return leash

    def forget(self, leash: Leash) -> None:
        """Let one go that is over, or that nobody shall hang on any more."""
        self._expected.pop(leash.token, None)
        leash.let_go()

    def close(self) -> None:
        """Let all go."""
        for connection in list(self._known):
            self._ends(connection)
        self._selector.close()
        self._listener.close()

    def pump(self) -> None:
        """Take note of all that has come since the last time."""
        for key, _ in self._selector.select(timeout=0):
            if key.fileobj is self._listener:
                self._accept()
            else:
                assert isinstance(key.fileobj, socket.socket)
                self._read(key.fileobj)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self._listener.accept()
                watch(connection)
                self._known[connection], self._heard[connection] = None, b""
                self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket) -> None:
        try:
            content = connection.recv(1 << 16)
        except OSError:
            content = b""
        *lines, rest = (self._heard[connection] + content).split(b"\n")
        self._heard[connection] = rest
        for line in lines:
            self._hear(connection, line)
        if not content or len(rest) > LONGEST_LINE:
            self._ends(connection)

    def _hear(self, connection: socket.socket, line: bytes) -> None:
        if connection not in self._known:
            return
        leash = self._known[connection]
        if leash is not None:
            leash.heard(orjson.loads(line))
        elif (expected := self._introduced(line)) is not None:
            self._known[connection] = expected
            expected.attach(connection, far_end(line))
        else:
            self._ends(connection)

    def _introduced(self, line: bytes) -> Leash | None:
        """Return the leash of one who says its token; None where it is a stranger."""
        try:
            given = str(orjson.loads(line)["token"]).encode()
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return None
        found = next((token for token in self._expected if hmac.compare_digest(token.encode(), given)), None)
        return None if found is None else self._expected.pop(found)

    def _ends(self, connection: socket.socket) -> None:
        if connection not in self._known:
            return
        self._selector.unregister(connection)
        leash = self._known.pop(connection)
        del self._heard[connection]
        connection.close()
        if leash is not None:
            leash.closed()


def far_end(line: bytes) -> FarEnd:
    """Return who it is that said its token, by that line."""
    said = orjson.loads(line)
    return FarEnd(said["host"], said["address"], tuple(said["devices"]))


def watch(connection: socket.socket) -> None:
    """Let the kernel notice within `SILENCE_SECONDS` that the other machine, or the network, is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, 5),
        (socket.TCP_KEEPINTVL, 5),
        (socket.TCP_KEEPCNT, (SILENCE_SECONDS - 5) // 5),
        (socket.TCP_USER_TIMEOUT, SILENCE_SECONDS * 1000),
        (socket.TCP_NODELAY, 1),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
