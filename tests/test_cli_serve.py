"""`agent-sft serve`: what cannot work is said before anything starts."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.conftest import RunCli
from tests.serving import rewritten
from tests.support import tree

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


@pytest.fixture(scope="module")
def run(lora_run: Path, serve_python: Path) -> Path:
    return lora_run


@pytest.fixture
def asked(run_cli: RunCli, tmp_path: Path) -> RunCli:
    """Run `agent-sft serve ARGS` where no server is known."""

    def ask(*words: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
        return run_cli("serve", *words, env={"XDG_STATE_HOME": str(tmp_path / "state")})

    return ask


def test_a_dry_run_shows_the_flags_and_touches_nothing(run: Path, asked: RunCli, tmp_path: Path) -> None:
    before = tree(run)
    shown = asked(run, "--lora", f"other={run}", "--set", "max-num-seqs=7", "--port", "8123", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    command = shown.stdout.splitlines()[-1]
    for words in (
        f"--model {shlex.quote(str(run / 'base'))}",
        f"--chat-template {shlex.quote(str(run / 'chat_template.jinja'))}",
        "--tool-call-parser hermes",
        "--max-model-len 32768",
        "--dtype float32",
        "--max-lora-rank 8",
        "--max-num-seqs 7",
        "--no-enable-chunked-prefill",  # else a seeded request whose prompt is read in pieces ends the engine
        "--max-num-batched-tokens 32768",
        "--host 127.0.0.1 --port 8123",
        '{"name":"other","path":',
    ):
        assert words in command, words
    assert "export VLLM_API_KEY='(random)'" in shown.stdout
    assert tree(run) == before
    assert not (tmp_path / "state").exists()


def test_a_dry_run_of_llamafactorys_server(run: Path, asked: RunCli) -> None:
    shown = asked(run, "--backend", "llamafactory", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "one request at a time" in shown.stdout
    assert f"adapter_name_or_path: {run}" in shown.stdout
    assert "export API_KEY='(random)'" in shown.stdout
    assert shown.stdout.splitlines()[-1].endswith("llamafactory/inside/command.py api llamafactory.yaml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["/nowhere/model"], "/nowhere/model: there is no such folder"),
        (["nobody/no-such-model"], "nobody/no-such-model: there is no such folder, and the hub gives no such model"),
        (["{run}/data"], "holds no model"),
        (["{run}/run.yaml"], "is a file, not a model's folder"),
        (["{run}", "--set", "max_modellen=3"], "did you mean 'max_model_len'?"),
        (["{run}", "--set", "tool_call_parser=hermess"], "did you mean 'hermes'?"),
        (["{run}", "--set", "enable_prefix_caching=3"], "takes true or false"),
        (["{run}", "--set", "api_key=secret"], "a random key of its own"),
        (["{run}", "--set", "port=3"], "use --port"),
        (["{run}", "--set", "chat_template=/nowhere"], "no such file"),
        (["{run}", "--lora", "other"], "is not of the form NAME=PATH"),
        (["{run}", "--lora", "other={run}/base"], "is a whole model, not an adapter"),
        (["{run}", "--lora", "a/b={run}"], "is not a name"),
        (["{run}", "--name", "no name"], "is not a name"),
        (["{run}", "--gpus", "99"], "there is no GPU 99"),
        (["{run}", "--gpus", "one"], "is not a list of different numbers"),
        (["{run}", "--port", "99999"], "--port"),
        (["stop"], "there is no server"),
        (["stop", "nobody"], "there is no server 'nobody'"),
        (["load", "a={run}"], "there is no server"),
        (["{run}", "--reload"], "there is no server"),
    ],
    ids=lambda value: " ".join(value).replace("{run}", "RUN").replace("/", "-") if isinstance(value, list) else "",
)
def test_a_wrong_request(run: Path, asked: RunCli, words: list[str], message: str) -> None:
    done = asked(*(word.replace("{run}", str(run)) for word in words))
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use(run: Path, asked: RunCli, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = asked(run, "--port", str(port))
    assert (done.returncode, f"--port {port}: the port cannot be used: Address already in use" in done.stderr) == (
        2,
        True,
    )
    assert not list((tmp_path / "state").rglob("server.json"))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0].content }}", "the chat template leaves tools out"),
        ("{% for tool in tools %}{{ tool }}{% endfor %}Action: x", "vLLM has no tool parser that is known to read"),
        (None, "the tokenizer has no chat template"),
    ],
)
def test_a_template_without_a_tool_parser(
    run: Path, asked: RunCli, tmp_path: Path, template: str | None, message: str
) -> None:
    other = shutil.copytree(run / "base", tmp_path / "other")
    rewritten(other / "tokenizer_config.json", chat_template=template)
    done = asked(other, "--dry-run")
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert "--no-tools" in done.stderr or template is None
    assert asked(other, "--no-tools", "--dry-run").returncode == 0


def test_weights_that_are_not_whole(run: Path, asked: RunCli, tmp_path: Path) -> None:
    other = shutil.copytree(run / "base", tmp_path / "other")
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    done = asked(other)
    assert (done.returncode, "model.safetensors is missing or damaged" in done.stderr) == (2, True)


def test_no_server_is_known(asked: RunCli) -> None:
    assert asked("status").stdout == "no server runs\n"
    assert json.loads(asked("status", "--json").stdout) == []
    assert asked("stop", "--all").returncode == 0


def test_help(asked: RunCli) -> None:
    shown = asked("--help").stdout
    for name in ("start", "status", "stop", "load", "unload"):
        assert f"\n  {name} " in shown
        assert asked(name, "--help").returncode == 0
