"""Forks programs from one process that has imported an engine, so that each of them begins at once.

Usage: fork_server.py SOCKET IMPORTED PREFIX...

IMPORTED is a Python file with `import_engine()`, which imports what is shared, and `begin(environment)`, which does in
each forked process what importing would have done by that environment.

A client (`fork_client.py`) connects to the socket and sends a program's command line, folder, environment and standard
streams. It is answered `no` where the program has to be started by itself: its environment differs in something that
importing may have read. It reads no variables that begin with a PREFIX. Otherwise the program runs in a forked process,
and the client gets its exit status when it has ended. It is killed, with its process group, when its client is gone,
and when this process is.

The engine is imported when the first client is there. One that computes cannot be shared where there is a GPU:
importing it looks at the GPU, which a forked process then cannot use.
"""

import contextlib
import ctypes
import gc
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ending import end, status_of

PR_SET_PDEATHSIG = 1
STREAMS = 3
LONGEST_ORDER = 1 << 20
UNREAD = frozenset(
    {
        *("COLUMNS", "LINES", "OLDPWD", "PATH", "PWD", "PYTHONUNBUFFERED", "SHLVL", "VIRTUAL_ENV", "XDG_STATE_HOME"),
        "_",
    }
)
"""Other variables that importing does not depend on."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""What `begin` sees to."""
GIVEN = dict(os.environ)
"""The environment before anything was imported that adds to it."""


class Server:
    """Listens, forks, and sees to it that nothing outlives its client."""

    def __init__(self, place: str, import_engine: Callable[[], None], unread: tuple[str, ...]) -> None:
        self._import_engine = import_engine
        self._unread = unread
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # From its folder: a socket's name has a hundred characters at most.
        os.chdir(Path(place).parent)
        Path(place).unlink(missing_ok=True)  # left by one that was killed
        self._listener.bind(Path(place).name)
        Path(place).chmod(0o600)
        self._listener.listen(16)
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._clients: dict[int, socket.socket] = {}
        """By the process that was forked for it."""
        self._left: set[int] = set()
        """Processes whose client is gone."""

    def serve(self) -> tuple[dict[str, Any], list[int]]:
        """Serve until this process is ended; return in each forked one, with the order and the streams of its program.

        The first client waits until the engine is imported.
        """
        select.select([self._listener], [], [])
        # Looking for garbage among what is imported, where there is none, takes a sixth of the time of importing it.
        gc.disable()
        self._import_engine()
        gc.freeze()
        gc.enable()
        while True:
            watched = {client: pid for pid, client in self._clients.items() if pid not in self._left}
            sources: list[Any] = [self._listener, self._woken, *watched]
            ready, _, _ = select.select(sources, [], [])
            for client in watched.keys() & set(ready):  # it says nothing more: this is its end
                self._left.add(watched[client])
                kill_group(watched[client])
            if self._woken in ready:
                self._reap()
            if self._listener in ready and (order := self._next()) is not None:
                return order

    def _next(self) -> tuple[dict[str, Any], list[int]] | None:
        """Answer a client; return its order in the process that is forked for it, None in this one."""
        client, _ = self._listener.accept()
        content, streams, _, _ = socket.recv_fds(client, LONGEST_ORDER, STREAMS)
        try:
            order = json.loads(content or "null")
            if order is None or order["python"] != sys.executable or not self._fits(order["environment"]):
                with contextlib.suppress(OSError):
                    client.send(b"no")
                client.close()
                return None
            server = os.getpid()
            pid = os.fork()
            if pid == 0:
                self._close()
                client.close()
                become_program(server)
                return order, [os.dup(stream) for stream in streams]
        finally:
            for stream in streams:
                os.close(stream)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # whichever of the two comes first
        self._clients[pid] = client
        with contextlib.suppress(OSError):
            client.send(b"forked")
        return None

    def _fits(self, environment: dict[str, str]) -> bool:
        """Tell whether a program may be forked that is to have this environment."""
        if self._read(environment) != self._read(GIVEN):
            return False
        asked, own = ([one.get(name) for name in THREADS] for one in (environment, GIVEN))
        return asked == own or (bool(asked[0]) and str(asked[0]).isdigit() and asked[1] in (None, asked[0]))

    def _read(self, environment: dict[str, str]) -> dict[str, str]:
        """Return the variables that importing may have read."""
        left_out = UNREAD | {*THREADS}
        return {
            name: value
            for name, value in environment.items()
            if name not in left_out and not name.startswith(self._unread)
        }

    def _reap(self) -> None:
        """Tell the clients of those that ended; what these left behind is killed."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._woken, 4096):
                pass
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                kill_group(pid)
                code = os.waitstatus_to_exitcode(status)
                self._left.discard(pid)
                with self._clients.pop(pid) as client, contextlib.suppress(OSError):
                    client.send(str(code if code >= 0 else 128 - code).encode())

    def _close(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._listener.close()
        os.close(self._woken)
        os.close(self._waker)
        for client in self._clients.values():
            client.close()


def kill_group(pid: int) -> None:
    """Kill what is left of a process and of its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def become_program(server: int) -> None:
    """Between fork and program: a process group of its own, which dies with the server."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(128 + signal.SIGKILL)


def run(order: dict[str, Any], streams: list[int], begin: Callable[[Mapping[str, str]], None]) -> None:
    """Run the program as its own interpreter would."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(order["folder"])
    added = {name: value for name, value in os.environ.items() if GIVEN.get(name) != value}
    os.environ.clear()
    os.environ.update({**order["environment"], **added})
    random.seed()
    begin(os.environ)
    sys.argv = order["command"]
    if sys.argv[0] == "-c":
        exec(compile(sys.argv.pop(1), "<string>", "exec"), {"__name__": "__main__"})
        return
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


def main() -> None:
    """Serve; in each forked process, run a program."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    place, imported, *unread = sys.argv[1:]
    sys.path[0] = str(Path(imported).parent)
    engine = runpy.run_path(imported)
    order, streams = Server(place, engine["import_engine"], tuple(unread)).serve()
    status = 0
    try:
        run(order, streams, engine["begin"])
    except SystemExit as asked:
        status = status_of(asked)
    end(status)


if __name__ == "__main__":
    main()
