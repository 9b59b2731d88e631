"""A trained model served by vLLM: it answers, keeps its key, takes adapters and weights, and tells of its death."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from agent_sft.config.evaluation import EvaluationConfig
from agent_sft.engines.endpoint import Endpoint, Refused
from agent_sft.engines.served import ServedModel
from agent_sft.errors import UserError
from agent_sft.runs.processes import catch_signals
from agent_sft.stages.evaluating import Outcome, evaluate, evaluate_on, pending
from agent_sft.stages.reporting import Quiet
from agent_sft.stages.serving import Server, ServeRequest, serve
from tests.conftest import RunCli
from tests.serving import (
    TOOL,
    all_gone,
    answer,
    command_of,
    family_of,
    other_adapter,
    port_is_free,
    random_weights,
    rewritten,
    text,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(full_run: Path) -> Path:
    return full_run


@pytest.fixture(scope="module")
def adapters(lora_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three adapters of the run's base, and one more of a higher rank."""
    folder = tmp_path_factory.mktemp("adapters")
    made = [other_adapter(lora_run, folder / f"lora-{seed}", seed) for seed in range(2)]
    higher = other_adapter(lora_run, folder / "lora-high", 9)
    rewritten(higher / "adapter_config.json", r=64)
    return [lora_run, *made, higher]


@pytest.fixture(scope="module")
def server(run: Path, serve_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with (
        catch_signals() as stop,
        serve(ServeRequest(model=str(run), lora_later=8), place=tmp_path_factory.mktemp("server"), stop=stop) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def endpoint(server: Server) -> Endpoint:
    return Endpoint(server.model.url, server.model.api_key)


def test_it_answers_under_a_name_of_its_own(server: Server, endpoint: Endpoint, run: Path) -> None:
    model = server.model
    assert model.name.startswith("full-")
    assert model.digest is not None
    assert model.name.endswith(model.digest.removeprefix("sha256:")[:8])
    assert (model.backend, model.template, model.path, model.base) == ("vllm", "qwen", run, None)
    assert endpoint.models() == [model.name]
    assert answer(endpoint, model.name)["usage"]["completion_tokens"] == 12
    assert server.alive()


def test_it_teaches(server: Server, call_cli: RunCli, tmp_path: Path) -> None:
    """Each prompt ends as a conversation, or is listed with what was wrong with its answers."""
    prompts = tmp_path / "prompts.jsonl"
    given = [{"prompt": f"My line L{number} is slow.", "tools": [TOOL]} for number in range(3)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in given))
    target = ["--to", tmp_path / "gold.jsonl", "--out", tmp_path, "--max-tokens", "300", "-n", "2"]
    key = {"AGENT_SFT_API_KEY": server.model.api_key}
    done = call_cli("distill", prompts, "--teacher", server.model.url, *target, env=key)
    made, failed, kept = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("conversations", "failures", "answers")
    )
    assert len(made) + len(failed) == 3, done.stderr
    assert {one["kind"] for one in failed} <= {"rejected"}
    assert all(one["output_tokens"] for one in kept)
    assert all(row["metadata"]["teacher"] == server.model.name for row in made)


def test_its_processes_import_the_engine_once(server: Server) -> None:
    """Without a GPU the engine is forked. The kernel marks a process that never began a program of its own."""
    never_exec = 0x40  # PF_FORKNOEXEC
    (engine,) = (process for process in family_of(os.getpid()) if command_of(process).startswith("VLLM::"))
    flags = Path(f"/proc/{engine.pid}/stat").read_text().rpartition(")")[2].split()[6]
    assert int(flags) & never_exec


def test_tools_reach_the_prompt(server: Server, endpoint: Endpoint) -> None:
    without = answer(endpoint, server.model.name)["usage"]["prompt_tokens"]
    with_tools = answer(endpoint, server.model.name, tools=[TOOL])["usage"]["prompt_tokens"]
    assert with_tools > without + 50


def test_the_prompt_is_the_trained_one(server: Server, endpoint: Endpoint) -> None:
    messages = [{"role": "system", "content": "You help."}, {"role": "user", "content": "My line L1 has no data."}]
    order = {"model": server.model.name, "messages": messages, "add_generation_prompt": True}
    tokens = endpoint.call("POST", "/tokenize", order)["tokens"]
    prompt = endpoint.call("POST", "/detokenize", {"model": server.model.name, "tokens": tokens})["prompt"]
    expected = (
        "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nMy line L1 has no data.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert prompt == expected


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/invocations"),
        ("POST", "/tokenize"),
        ("GET", "/metrics"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/collective_rpc"),
    ],
)
def test_without_its_key_it_refuses(server: Server, method: str, path: str) -> None:
    with pytest.raises(Refused) as refused:
        Endpoint(server.model.url, "another").call(method, path, {} if method == "POST" else None)
    assert refused.value.status == 401


def test_the_key_stands_in_no_log_and_no_command_line(server: Server, run: Path) -> None:
    key = server.model.api_key
    assert key not in repr(server.model)
    written = (path for folder in (run, server.log.parent) for path in folder.rglob("*") if path.is_file())
    assert not [path for path in written if key.encode() in path.read_bytes()]
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if any(key in word for word in line)]


def test_it_listens_on_this_machine_alone(server: Server) -> None:
    port = urlsplit(server.model.url).port
    listening = [
        connection.laddr.ip
        for process in family_of(os.getpid())
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}
    assert not port_is_free(port or 0)


def test_adapters_come_and_go_while_it_runs(server: Server, endpoint: Endpoint, adapters: list[Path]) -> None:
    base = text(endpoint, server.model.name)
    said = {}
    for number, folder in enumerate(adapters[:3]):
        loaded = server.load_adapter(f"adapter-{number}", folder)
        assert (loaded.name, loaded.path, loaded.base) == (f"adapter-{number}", folder, server.model.name)
        said[loaded.name] = text(endpoint, loaded.name)
    assert server.model.adapters == ("adapter-0", "adapter-1", "adapter-2")
    assert len({base, said["adapter-1"], said["adapter-2"]}) == 3
    assert len({server.control.adapter(name).digest for name in said}) == 3
    server.unload_adapter("adapter-1")
    with pytest.raises(Refused):
        answer(endpoint, "adapter-1")
    assert text(endpoint, "adapter-2") == said["adapter-2"]
    server.load_adapter("adapter-0", adapters[1])
    assert text(endpoint, "adapter-0") == said["adapter-1"]
    for name in ("adapter-0", "adapter-2"):
        server.unload_adapter(name)
    assert endpoint.models() == [server.model.name]


def test_what_is_no_adapter_of_it_is_refused(server: Server, run: Path, adapters: list[Path], tmp_path: Path) -> None:
    other = shutil.copytree(adapters[1], tmp_path / "other")
    (other / "chat_template.jinja").write_text("{{ tools }} another")
    for folder, words in (
        (run, "not an adapter"),
        (adapters[3], "its rank is 64, the server was started for 8"),
        (tmp_path / "nothing", "no such folder"),
        (other, "another chat template"),
    ):
        with pytest.raises(UserError, match=words):
            server.load_adapter("wrong", folder)
    with pytest.raises(UserError, match="no adapter is called 'wrong'"):
        server.unload_adapter("wrong")
    with pytest.raises(UserError, match="is the model that is served"):
        server.load_adapter(server.model.name, adapters[0])
    assert server.model.adapters == ()


def test_weights_are_exchanged_while_it_runs(server: Server, endpoint: Endpoint, run: Path, tmp_path: Path) -> None:
    before, digest, name = text(endpoint, server.model.name), server.model.digest, server.model.name
    other = shutil.copytree(run, tmp_path / "other", ignore=shutil.ignore_patterns("checkpoint-*", "base"))
    random_weights(other / "model.safetensors", 1)
    changed = server.reload(other)
    assert (changed.name, changed.path) == (name, other)
    assert changed.digest != digest
    assert text(endpoint, name) != before
    assert server.reload(run).digest == digest
    assert text(endpoint, name) == before


def test_what_it_serves_in_turn_is_evaluated_each_under_its_own_name(
    server: Server, run: Path, adapters: list[Path], tmp_path: Path
) -> None:
    row = {"task_id": "hello", "instruction": "Hello", "verifier": {"fn_name": "regex", "pattern": "(?s).*"}}
    task = tmp_path / "task"
    task.mkdir()
    (task / "tasks.jsonl").write_text(json.dumps(row))
    other = shutil.copytree(run, tmp_path / "other", ignore=shutil.ignore_patterns("checkpoint-*", "base"))
    weights = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(weights[:-4] + weights[-8:-4])

    def asked(model: Path) -> EvaluationConfig:
        out = tmp_path / f"out-{model.name}"
        return EvaluationConfig(model=str(model), evaluator="tasks", task=str(task), out=out, max_tokens=8)

    with catch_signals() as stop:

        def evaluated(model: ServedModel, folder: Path) -> Outcome:
            return evaluate_on(server, model, asked(folder), reporter=Quiet(), stop=stop)

        found = [
            evaluated(server.load_adapter(f"a{number}", folder), folder) for number, folder in enumerate(adapters[:3])
        ]
        found.append(evaluated(server.model, run))
        with pytest.raises(UserError, match="not the ones that are served"):
            evaluated(server.model, other)
        assert pending(asked(other)) == [("hello", 0)]
        found.append(evaluated(server.reload(other), other))
        with pytest.raises(UserError, match="not the ones that are served"):
            evaluated(server.model, run)
        server.reload(run)
        assert all(one.evaluation.finished and not one.failed and not one.missing for one in found)
        assert len({one.evaluation.model_digest for one in found}) == 5
        for folder in (*adapters[:3], run, other):
            assert pending(asked(folder)) == []
            assert evaluate(asked(folder), reporter=Quiet(), stop=stop).evaluation.finished, "without a server"
        longer = asked(run).model_copy(update={"trials": 2})
        with pytest.raises(UserError, match="holds another evaluation"):
            pending(longer)
    for number in range(3):
        server.unload_adapter(f"a{number}")


def test_weights_of_another_shape_are_refused(server: Server, run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other", ignore=shutil.ignore_patterns("checkpoint-*", "base"))
    rewritten(other / "config.json", architectures=["LlamaForCausalLM"])
    with pytest.raises(UserError, match="differs from the model that is served \\(architecture\\)"):
        server.reload(other)
    assert server.alive()


def test_when_its_engine_is_killed_it_says_so_and_nothing_is_left(server: Server) -> None:
    port = urlsplit(server.model.url).port or 0
    family = family_of(os.getpid())
    engine = next(process for process in family if command_of(process).startswith("VLLM::"))
    mine = [process for process in family if "resource_tracker" not in command_of(process)]
    engine.kill()
    assert all_gone(mine)
    assert not server.alive()
    assert "the server has ended (exit code" in server.why_dead()
    assert str(server.log) in server.why_dead()
    assert port_is_free(port)
