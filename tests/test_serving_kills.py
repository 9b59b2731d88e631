"""However a server's owner ends, nothing of the server is left, its port is free, and the next one starts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from agent_sft.engines.forks.sharing import FORKS
from agent_sft.stages.serving import free_port
from tests.conftest import RunCli
from tests.forks import unforked
from tests.serving import all_gone, command_of, family_of, port_is_free

pytestmark = pytest.mark.slow

NAME = "calls"


class Desk:
    """A terminal with a run to serve, always at the same port and name. Names are as awkward as they get.

    Its servers are started, not forked, so that there is a while in which they load, and one in which they end.
    """

    def __init__(self, run: Path, folder: Path, run_cli: RunCli) -> None:
        self.run = run
        self.state = folder / "st\"a'te $HOME"
        self.env = {**unforked(), "XDG_STATE_HOME": str(self.state)}
        self.port = free_port(None)
        self._cli = run_cli

    @property
    def folder(self) -> Path:
        return self.state / "agent-sft" / "servers" / NAME

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._cli("serve", *words, env={"XDG_STATE_HOME": str(self.state), FORKS: ""})

    def start(self) -> subprocess.Popen[str]:
        """Serve in the foreground."""
        options = ["--name", NAME, "--port", str(self.port)]
        command = [sys.executable, "-P", "-m", "agent_sft", "serve", str(self.run), *options]
        return subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def record(self) -> dict[str, object]:
        path = self.folder / "server.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}


@pytest.fixture
def desk(
    full_run: Path, tmp_path_factory: pytest.TempPathFactory, run_cli: RunCli, serve_python: Path
) -> Iterator[Desk]:
    desk = Desk(full_run, tmp_path_factory.mktemp('a b\'c "d" $HOME é'), run_cli)
    yield desk
    if desk.record():
        desk.cli("stop", "--all")


def wait_for(condition: Callable[[], object], alive: Callable[[], bool], seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert alive(), "it ended too early"
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def titles(pid: int) -> str:
    """Return the titles of all processes below one, which vLLM's give themselves."""
    return " ".join(command_of(process) for process in family_of(pid))


def test_killed_while_it_loads(desk: Desk) -> None:
    owner = desk.start()
    wait_for(lambda: "VLLM::EngineCore" in titles(owner.pid), lambda: owner.poll() is None)
    family = family_of(owner.pid)
    owner.kill()
    owner.communicate()
    assert all_gone(family)
    assert port_is_free(desk.port)
    assert f"{NAME}: dead" in desk.cli("status").stdout


def test_what_it_prints_works_when_pasted_and_killed_while_it_answers(desk: Desk, serve_python: Path) -> None:
    owner = desk.start()
    assert owner.stdout is not None
    printed: list[str] = []
    for line in owner.stdout:
        printed.append(line.rstrip("\n"))
        if "Ctrl-C ends it" in line:
            break
    assert owner.poll() is None, printed
    curl = next(line.strip() for line in printed if line.strip().startswith("curl")).replace(
        "-s ", "-s --max-time 300 "
    )
    short = curl.replace('{"model"', '{"max_tokens": 3, "model"')
    reply = json.loads(subprocess.run(["bash", "-c", short], capture_output=True, text=True, check=True).stdout)
    assert (reply["model"], reply["choices"][0]["message"]["role"]) == (NAME, "assistant")
    begin = next(number for number, line in enumerate(printed) if "from pathlib" in line)
    snippet = "\n".join(line.strip() for line in printed[begin : begin + 6])
    said = subprocess.run([serve_python, "-c", snippet], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    refused = desk.cli(str(desk.run), "--name", NAME)
    assert (refused.returncode, f"a server called '{NAME}' runs already" in refused.stderr) == (2, True)
    taken = desk.cli(str(desk.run), "--name", "another", "--port", str(desk.port))
    assert (taken.returncode, "Address already in use" in taken.stderr) == (2, True)
    long = curl.replace('{"model"', '{"stream": true, "max_tokens": 30000, "ignore_eos": true, "model"')
    asking = subprocess.Popen(["bash", "-c", long.replace("-s ", "-sN ", 1)], stdout=subprocess.PIPE)
    assert asking.stdout is not None
    assert asking.stdout.readline().startswith(b"data: "), "it has begun to answer"
    family = family_of(owner.pid)
    assert "VLLM::EngineCore" in titles(owner.pid)
    owner.kill()
    owner.communicate()
    assert all_gone(family)
    assert port_is_free(desk.port)
    assert b"[DONE]" not in asking.communicate()[0]


def test_detached_it_lives_on_and_is_killed_while_it_stops(desk: Desk) -> None:
    options = (str(desk.run), "--name", NAME, "--port", str(desk.port), "--detach")
    done = desk.cli(*options)
    assert done.returncode == 0, done.stderr
    assert f"serving: {NAME}" in done.stdout
    record = desk.record()
    pid = int(str(record["pid"]))
    assert psutil.Process(pid).ppid() != os.getpid()
    key_file = desk.folder / "api-key"
    assert key_file.stat().st_mode & 0o777 == 0o600
    key = key_file.read_text()
    others = [path for path in desk.folder.iterdir() if path != key_file]
    assert not [path for path in others if key in path.read_text(errors="replace")]
    assert f"{NAME}: ready, process {pid}" in desk.cli("status").stdout
    again = desk.cli(*options)
    assert (again.returncode, "runs already" in again.stderr) == (2, True)
    family = family_of(pid)
    os.kill(pid, signal.SIGTERM)
    while "Shutting down" not in (desk.folder / "server.log").read_text() and psutil.pid_exists(pid):
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    assert all_gone(family)
    assert port_is_free(desk.port)
    forgotten = desk.cli("stop", NAME)
    assert (forgotten.returncode, "was dead, forgotten" in forgotten.stdout) == (0, True)
    assert desk.cli("status").stdout == "no server runs\n"


def test_stopped_while_it_loads_it_ends_at_once(desk: Desk) -> None:
    owner = desk.start()
    wait_for(lambda: "agent_sft_server" in titles(owner.pid), lambda: owner.poll() is None)
    family = family_of(owner.pid)
    owner.terminate()
    printed, _ = owner.communicate(timeout=60)
    assert owner.returncode == 143, printed
    assert "nothing of it is left" in printed
    assert all_gone(family, 1)
    assert not desk.record()
