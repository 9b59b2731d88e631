"""Servers are known by plain files; whether they live is asked of the system."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent_sft.engines.served import ServedModel
from agent_sft.errors import UserError
from agent_sft.runs.processes import process_started
from agent_sft.stages.serving_control import Control
from agent_sft.stages.serving_registry import (
    Record,
    all_servers,
    find_server,
    read_record,
    refuse_running,
    registered,
    server_folder,
    stop_server,
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def record(name: str, pid: int | None = None, host: str | None = None) -> Record:
    """A recorded server, of this process unless told otherwise."""
    pid = pid or os.getpid()
    made = Record(server_folder(name), pid, process_started(pid) or 1.0, host or socket.gethostname(), "now", {})
    made.write()
    return made


def control() -> Control:
    model = ServedModel(
        name="calls",
        url="http://127.0.0.1:9/v1",
        api_key="secret",
        backend="vllm",
        template="qwen",
        tools=True,
        max_model_len=9,
        path=Path("/runs/calls"),
        digest="sha256:0",
        adapters=("a",),
    )
    return Control(model, "calls", Path("/runs/calls"), 8, {"a": Path("/runs/a")})


def test_what_is_written_is_read_back_and_the_key_apart() -> None:
    made = record("calls")
    assert made.state == "starting"
    made.write(control())
    found = read_record(made.folder)
    assert found is not None
    assert found.state == "ready"
    assert found.control() == control()
    assert found.key_file.stat().st_mode & 0o777 == 0o600
    assert "secret" not in (made.folder / "server.json").read_text()
    assert made.folder.stat().st_mode & 0o777 == 0o700


def test_a_dead_server_and_one_elsewhere_are_told_apart() -> None:
    done = subprocess.Popen([sys.executable, "-c", "pass"])
    done.wait()
    record("gone", pid=done.pid)
    reused = Record(server_folder("reused"), os.getpid(), 1.0, socket.gethostname(), "now", {})
    reused.write()
    record("far", host="elsewhere")
    states = {server.name: server.state for server in all_servers()}
    assert states == {"gone": "dead", "reused": "dead", "far": "on elsewhere"}


def test_a_server_is_found_by_its_name_or_as_the_only_one() -> None:
    with pytest.raises(UserError, match="there is no server"):
        find_server(None)
    record("calls")
    assert find_server(None).name == "calls"
    record("other")
    with pytest.raises(UserError, match="there are several servers\n  name one of: calls, other"):
        find_server(None)
    with pytest.raises(UserError, match="did you mean 'calls'"):
        find_server("cals")


def test_a_name_that_runs_is_refused_and_free_again_afterwards() -> None:
    with registered("calls") as (held, _), pytest.raises(UserError, match="'calls' runs already"):
        refuse_running(held.name)
    refuse_running("calls")
    assert all_servers() == []


def test_stopping_waits_for_the_end() -> None:
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    made = record("calls", pid=owner.pid)
    stop_server(made)
    assert owner.wait(0) == -signal.SIGTERM
    assert all_servers() == []


def test_a_server_elsewhere_is_not_stopped_from_here() -> None:
    with pytest.raises(UserError, match="runs on elsewhere"):
        stop_server(record("far", host="elsewhere"))
