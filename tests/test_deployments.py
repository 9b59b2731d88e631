"""What is deployed stays: it is started again when it dies, at the same address, with the same key."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from agent_sft.errors import UserError
from agent_sft.runs.directory import RunDirectory
from agent_sft.stages.deployment_files import systemd_unit
from agent_sft.stages.deployments import all_deployments, find_deployment, log_of, read_end
from agent_sft.stages.serving_registry import registered
from agent_sft.stages.supervising import LOGS_KEPT, _keep_log
from tests.conftest import RunCli
from tests.serving import all_gone, port_is_free


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "agent-sft" / "servers"


def test_deployments_are_servers_that_somebody_watches(state: Path) -> None:
    with registered("watched", supervised=True) as (record, _), registered("plain"):
        RunDirectory(record.folder).record("died", reason="the server died (exit code 137)")
        (found,) = all_deployments()
        assert (found.record.name, found.state, found.restarts) == ("watched", "starting", 1)
        assert "exit code 137" in str(found.last_death)
        assert find_deployment(None).record.name == "watched"
        with pytest.raises(UserError, match="did you mean 'watched'"):
            find_deployment("wached")
    assert all_deployments() == []


def test_what_died_before_it_was_deployed_is_not_its_restart(state: Path) -> None:
    folder = state / "again"
    folder.mkdir(parents=True)
    old = {"at": "2020-01-01T00:00:00+00:00", "event": "died", "pid": os.getpid(), "reason": "long ago"}
    (folder / "events.jsonl").write_text(json.dumps(old) + "\n")
    with registered("again", supervised=True):
        assert [one.restarts for one in all_deployments()] == [0]


def test_the_logs_of_servers_that_died_are_numbered_and_the_last_ones_kept(state: Path) -> None:
    with registered("calls", supervised=True) as (record, _):
        for number in range(LOGS_KEPT + 2):
            record.log.write_text(f"server {number}\n")
            _keep_log(record.log)
        kept = sorted(record.folder.glob("server.*.log"))
        assert [path.read_text() for path in kept] == [f"server {number}\n" for number in range(2, LOGS_KEPT + 2)]
        assert read_end(log_of(record, LOGS_KEPT + 2), 5)[0] == f"server {LOGS_KEPT + 1}\n"
        with pytest.raises(UserError, match="there is no such log"):
            log_of(record, 1)


def test_a_unit_says_the_command_as_systemd_reads_it() -> None:
    unit = systemd_unit("calls", ["a b/agent-sft", "deploy", '/runs/100%"$x'], {"CUDA_VISIBLE_DEVICES": "0,1"})
    assert 'ExecStart="a b/agent-sft" "deploy" "/runs/100%%\\"$$x"\n' in unit
    assert 'Environment="CUDA_VISIBLE_DEVICES=0,1"\n' in unit
    assert "Restart=on-failure\n" in unit


@pytest.fixture(scope="module")
def run(lora_run: Path, serve_python: Path) -> Path:
    return lora_run


@pytest.mark.slow
def test_an_exported_adapter_is_a_model_of_its_own(run: Path, run_cli: RunCli, tmp_path: Path) -> None:
    target, compose = tmp_path / "exported é", tmp_path / "compose.yaml"
    done = run_cli("deploy", run, "--export", target, "--compose", compose, "--port", "8123")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in target.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md"} <= names
    assert "adapter_config.json" not in names
    assert (target / "chat_template.jinja").read_text() == (run / "chat_template.jinja").read_text()
    assert (target / "model.safetensors").read_bytes() != (run / "base" / "model.safetensors").read_bytes()
    card = (target / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "transformers"
    for words in ("| `finetuning_type` | lora |", "`learning_rate`", "sha256:", "- optimizer steps: 2", "trained on"):
        assert words in card, card
    service = yaml.safe_load(compose.read_text())["services"]["model"]
    assert service["volumes"] == [f"{target}:/model:ro"]
    assert service["ports"] == ["127.0.0.1:8123:8000"]
    words = " ".join(service["command"])
    assert "--model /model " in words
    assert "--chat-template /model/chat_template.jinja" in words
    assert "--tool-call-parser hermes" in words
    assert str(tmp_path) not in words

    again = run_cli("deploy", run, "--export", target)
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    assert not list(tmp_path.glob(".*.part"))
    plan = run_cli("deploy", target, "--dry-run")
    assert f"--model {shlex.quote(str(target))}" in plan.stdout


@pytest.mark.slow
def test_a_server_that_is_killed_answers_again(run: Path, run_cli: RunCli, call_cli: RunCli, tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path)}

    def listed() -> dict[str, Any]:
        (found,) = json.loads(call_cli("deployments", "list", "--json", env=env).stdout)
        return dict(found)

    done = run_cli("deploy", run, "--backend", "llamafactory", "--name", "calls", env=env)
    assert done.returncode == 0, done.stderr
    try:
        before = listed()
        assert before["state"] == "answers"
        key = Path(before["key_file"]).read_text()
        supervisor = psutil.Process(before["pid"])
        family = supervisor.children(recursive=True)
        max(family, key=memory_of).kill()
        wait_until(lambda: listed()["restarts"] == 1 and listed()["state"] == "answers")
        after = listed()
        assert "died" in after["last_death"]
        assert (after["model"]["url"], Path(after["key_file"]).read_text()) == (before["model"]["url"], key)
        assert "exit code" in call_cli("deployments", "list", env=env).stdout
        assert call_cli("deployments", "logs", "--before", "1", env=env).stdout
        family = [supervisor, *supervisor.children(recursive=True)]
    finally:
        stopped = call_cli("deployments", "stop", "calls", env=env)
    assert stopped.stdout.startswith("calls: stopped")
    assert all_gone(family)
    assert port_is_free(int(before["model"]["url"].rpartition(":")[2].removesuffix("/v1")))
    assert call_cli("deployments", "list", env=env).stdout == "nothing is deployed\n"


def memory_of(process: psutil.Process) -> int:
    """Return the bytes that a process has in memory; none where it has ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["/nowhere"], "/nowhere: there is no such folder"),
        (["/nowhere", "--compose", "c.yaml"], "--compose: needs the folder that it serves"),
        (["/nowhere", "--export", "x", "--compose", "c", "--backend", "llamafactory"], "--compose: is for vLLM"),
        (["/nowhere", "--scores", "x"], "--scores: is for the card of an exported model"),
        (["/nowhere", "--export", "x"], "/nowhere: there is no such folder"),
    ],
    ids=["model", "compose", "backend", "scores", "export"],
)
def test_a_wrong_request(call_cli: RunCli, tmp_path: Path, words: list[str], message: str) -> None:
    done = call_cli("deploy", *words, cwd=tmp_path)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_deployed(call_cli: RunCli, tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path)}
    assert call_cli("deployments", "list", env=env).stdout == "nothing is deployed\n"
    assert call_cli("deployments", "stop", env=env).returncode == 2
    assert call_cli("deployments", "logs", "calls", env=env).returncode == 2


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "calls.service"
    path.write_text(systemd_unit("calls", ["/bin/sh", "-c", "echo 100% $HOME"], {}))
    try:
        found = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("systemd is not here")
    assert str(path) not in found.stderr
