"""Has a program run in a process that `fork_server.py` forks, and ends as it ends.

Usage: python -I -S fork_client.py SOCKET PROGRAM ARGUMENTS

Where there is no server, or the program is not for it, the program is started by this Python, in place of this one.
"""

import json
import os
import socket
import sys

KILLED = 137


def status_of(place: str, command: list[str]) -> int | None:
    """Return the program's exit status (128 + signal number after a signal); None where it has to be started."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        try:
            order = {
                "python": sys.executable,
                "command": command,
                "folder": os.getcwd(),  # noqa: PTH109
                "environment": dict(os.environ),
            }
            connect(server, place)
            socket.send_fds(server, [json.dumps(order).encode()], [0, 1, 2])
            if server.recv(64) != b"forked":
                return None
        except OSError:
            return None
        try:
            answer = server.recv(64)
        except OSError:
            answer = b""
    return int(answer) if answer else KILLED  # nothing: the server died, and the program with it


def connect(server: socket.socket, place: str) -> None:
    """Connect from the socket's folder: a socket's name has a hundred characters at most."""
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(os.path.dirname(place))  # noqa: PTH120
        server.connect(os.path.basename(place))  # noqa: PTH119
    finally:
        os.fchdir(here)
        os.close(here)


def main() -> None:
    """Run the program."""
    place, *command = sys.argv[1:]
    status = status_of(place, command)
    if status is None:
        os.execv(sys.executable, [sys.executable, *command])
    sys.exit(status)


if __name__ == "__main__":
    main()
