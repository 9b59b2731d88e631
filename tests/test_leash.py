"""Commands on leashes: what runs elsewhere ends with the connection, from whichever side that breaks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from agent_sft.runs.leash import Leash, Leashes

SLEEP = [sys.executable, "-c", "import time; print('sleeping', flush=True); time.sleep(600)"]


@pytest.fixture
def leashes() -> Iterator[Leashes]:
    made = Leashes("127.0.0.1")
    yield made
    made.close()


class Elsewhere:
    """The far end of a leash, started as somebody on another machine starts it."""

    def __init__(self, leashes: Leashes, leash: Leash, token: str | None = None, devices: list[str] | None = None):
        host, port = leashes.address
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "agent_sft.runs.leashed", host, str(port)],
            stdin=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        given = {"token": leash.token if token is None else token, "devices": devices}
        self.process.stdin.write(json.dumps(given).encode() + b"\n")
        self.process.stdin.flush()

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)

    def family(self) -> list[psutil.Process]:
        """All that it has started."""
        return psutil.Process(self.process.pid).children(recursive=True)


def wait(leashes: Leashes, what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        leashes.pump()
        time.sleep(0.01)


def running(leashes: Leashes, leash: Leash, log: Path) -> None:
    """Have the far end run what never ends by itself, and wait until it does."""
    wait(leashes, lambda: leash.far is not None)
    leash.start(SLEEP, dict(os.environ), log, Path.cwd())
    wait(leashes, lambda: log.is_file() and "sleeping" in log.read_text())


def gone(processes: list[psutil.Process]) -> bool:
    assert processes
    return not psutil.wait_procs(processes, timeout=30)[1]


def test_a_command_runs_with_its_variables_devices_and_folder_and_its_status_is_told(
    leashes: Leashes, tmp_path: Path
) -> None:
    leash = leashes.expect()
    program = "import os, sys; print(os.environ['WORD'], os.environ['CUDA_VISIBLE_DEVICES'], os.getcwd()); sys.exit(7)"
    with Elsewhere(leashes, leash, devices=["3", "1"]):
        wait(leashes, lambda: leash.far is not None)
        assert leash.far is not None
        assert (leash.far.host, leash.far.devices) == (socket.gethostname(), ("3", "1"))
        log = tmp_path / "logs" / "1.log"
        leash.start([sys.executable, "-c", program], {**os.environ, "WORD": "é"}, log, tmp_path)
        wait(leashes, lambda: leash.over)
    assert (leash.status, leash.broken) == (7, False)
    assert log.read_text() == f"é 3,1 {tmp_path}\n"


def test_a_command_that_cannot_be_started_says_so(leashes: Leashes, tmp_path: Path) -> None:
    leash = leashes.expect()
    with Elsewhere(leashes, leash):
        wait(leashes, lambda: leash.far is not None)
        leash.start(SLEEP, dict(os.environ), tmp_path / "log", tmp_path / "nowhere")
        wait(leashes, lambda: leash.over)
    assert leash.status == 126
    assert "nowhere: No such file or directory" in (tmp_path / "log").read_text()


def test_a_command_may_save_before_it_ends(leashes: Leashes, tmp_path: Path) -> None:
    leash = leashes.expect()
    program = (
        "import os, signal, sys, time\n"
        # Not by print, in whose middle the signal may come.
        "signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b'saved'), sys.exit(5)))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)"
    )
    with Elsewhere(leashes, leash):
        wait(leashes, lambda: leash.far is not None)
        log = tmp_path / "log"
        leash.start([sys.executable, "-c", program], dict(os.environ), log, tmp_path)
        wait(leashes, lambda: log.is_file() and "ready" in log.read_text())
        leash.terminate()
        wait(leashes, lambda: leash.over)
    assert leash.status == 5
    assert "saved" in log.read_text()


def test_nothing_is_left_when_kill_returns(leashes: Leashes, tmp_path: Path) -> None:
    leash = leashes.expect()
    with Elsewhere(leashes, leash) as elsewhere:
        running(leashes, leash, tmp_path / "log")
        family = elsewhere.family()
        leash.kill()
        assert leash.status == 137
        assert gone(family)


@pytest.mark.parametrize("end", ["who started it", "its own", "the connection"])
def test_all_ends_when_one_side_does(leashes: Leashes, tmp_path: Path, end: str) -> None:
    leash = leashes.expect()
    with Elsewhere(leashes, leash) as elsewhere:
        running(leashes, leash, tmp_path / "log")
        family = elsewhere.family()
        if end == "who started it":
            assert elsewhere.process.stdin is not None
            elsewhere.process.stdin.close()
        elif end == "its own":
            elsewhere.process.send_signal(signal.SIGKILL)
        else:
            leash.let_go()
        assert gone(family)
        wait(leashes, lambda: leash.over)
        assert (leash.status, leash.broken) == (None, True)


def test_who_does_not_know_the_token_gets_no_command(leashes: Leashes) -> None:
    leash = leashes.expect()
    with Elsewhere(leashes, leash, token="x" * 32) as stranger:
        while stranger.process.poll() is None:
            leashes.pump()
    with socket.create_connection(leashes.address) as other:
        other.sendall(b"GET / HTTP/1.1\r\n\r\n")
        other.settimeout(0.01)
        closed = False

        def is_closed() -> bool:
            nonlocal closed
            try:
                closed = not other.recv(1)
            except TimeoutError:
                closed = False
            return closed

        wait(leashes, is_closed)
    assert leash.far is None


def test_a_port_is_found_there(leashes: Leashes) -> None:
    leash = leashes.expect()
    with Elsewhere(leashes, leash):
        wait(leashes, lambda: leash.far is not None)
        leash.ask_port()
        wait(leashes, lambda: leash.port is not None)
    assert leash.port is not None
    assert 1024 <= leash.port < 65536
