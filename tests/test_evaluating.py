"""Evaluations of a trained model that vLLM serves: what counts is that every layer is real, and what is told of it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_sft.evals.results import read_results, read_trials
from agent_sft.runs.processes import catch_signals
from agent_sft.stages.evaluating import evaluate_on, kept_options
from agent_sft.stages.reporting import Quiet
from agent_sft.stages.serving import Server, ServeRequest, serve
from tests.conftest import ROOT, RunCli
from tests.serving import all_gone, command_of, family_of

pytestmark = pytest.mark.slow

DOMAINS = ("airline", "banking", "retail", "telecom")


@pytest.fixture(scope="module")
def run(full_run: Path) -> Path:
    return full_run


@pytest.fixture(scope="module")
def server(run: Path, serve_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with (
        catch_signals() as stop,
        serve(ServeRequest(model=str(run)), place=tmp_path_factory.mktemp("server"), stop=stop) as running,
    ):
        yield running


@pytest.mark.parametrize("domain", DOMAINS)
def test_tau2_by_inspect_with_one_model_as_agent_and_customer(
    run_cli: RunCli, server: Server, tmp_path: Path, domain: str
) -> None:
    out = tmp_path / "out"
    done = run_cli(
        *("eval", "run", "--evaluator", "inspect", "--task", f"inspect_evals/tau2_{domain}", "--limit", "1"),
        *("--model", f"{server.model.url}#{server.model.name}", "--user-model", "local", "--out", out),
        *("--max-messages", "6", "--max-tokens", "24", "--time-limit", "300", "--concurrency", "2"),
        env={"AGENT_SFT_API_KEY": server.model.api_key},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    evaluation, (trial,) = read_results(out)
    assert trial.error is None
    assert trial.ended in ("max_messages", "user_stop", "token_limit")
    assert trial.output_tokens > 0
    assert evaluation.floor in (0.0, 1.0)
    assert "doing nothing" in done.stdout


def test_when_vllm_is_killed_nothing_counts_as_scored_and_the_evaluation_goes_on_elsewhere(
    run_cli: RunCli, server: Server, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = ["eval", "run", "--evaluator", "inspect", "--task", "tests/inside/odd_task.py", "--model", str(run)]
    given += ["--param", "args={count: 60}", "--concurrency", "2", "--max-tokens", "32", "--token-limit", "200"]
    given += ["--max-retries", "1", "--out", str(out)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-P", "-m", "agent_sft", *given], cwd=ROOT, stdout=log, stderr=log)
        while not (out / "results.jsonl").exists() and process.poll() is None:
            time.sleep(0.01)
        family = family_of(process.pid)
        next(one for one in family if "EngineCore" in command_of(one)).kill()
        assert process.wait(400) == 1, (tmp_path / "log").read_text()
    assert "the server has ended" in (tmp_path / "log").read_text()
    assert all_gone(family)
    before = read_trials(out)
    scored = {place for place, trial in before.items() if trial.score is not None}
    assert 0 < len(scored) < 62
    assert all(before[place].output_tokens for place in scored), "what a dead server left unsaid is no answer"

    with catch_signals() as stop:  # the same weights, at another address
        found = evaluate_on(server, server.model, kept_options(out), reporter=Quiet(), stop=stop)
    assert (len(found.trials), found.failed) == (62, [])
    assert (found.evaluation.model, found.evaluation.model_digest) == (str(run), server.model.digest)
    assert all(trial == before[trial.place] for trial in found.trials if trial.place in scored), "not run again"
    again = run_cli(*given, cwd=ROOT)
    assert again.returncode == 0, again.stderr
    assert "finished already" in again.stderr
    assert "starting" not in again.stderr


def test_what_the_server_refuses_is_said_with_the_options_of_an_evaluation(
    run_cli: RunCli, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (tmp_path / "tasks.jsonl").write_text(
        json.dumps({"task_id": "a", "instruction": "x", "verifier": {"fn_name": "exact", "expected": "y"}})
    )
    given = ("eval", "run", "--evaluator", "tasks", "--task", tmp_path, "--out", out)
    deaf = shutil.copytree(run, tmp_path / "deaf", ignore=shutil.ignore_patterns("checkpoint-*", "base"))
    (deaf / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for model, more, said in (
            (run, (f"port={taken.getsockname()[1]}",), "--serve port=N"),
            (deaf, ("backend=vllm",), "--serve tools=false"),
        ):
            done = run_cli(*given, "--model", model, "--serve", *more)
            assert (done.returncode, said in done.stderr) == (2, True), done.stderr
            assert not out.exists()


def test_the_held_out_loss_is_that_of_the_training(run_cli: RunCli, run: Path, tmp_path: Path) -> None:
    (data,) = (run / "processed").glob("*.jsonl")
    out = tmp_path / "out"
    done = run_cli("eval", "run", "--evaluator", "loss", "--task", data, "--model", run, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    _, (trial,) = read_results(out)
    assert trial.score is not None
    assert 0 <= trial.score <= 1
    assert 1 < trial.detail["loss"] < 12, "a model of two steps knows little more than how often tokens are"
    assert f"loss          {trial.detail['loss']:.4f}" in done.stdout
    assert trial.detail["examples"] == len(data.read_text().splitlines())


def test_a_model_whose_training_diverged_is_said_to_have_no_loss(run_cli: RunCli, run: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(run, tmp_path / "broken", ignore=shutil.ignore_patterns("checkpoint-*", "base"))
    weights = (broken / "model.safetensors").read_bytes()
    begin = 8 + int.from_bytes(weights[:8], "little")
    # All bits set are no number, in every format.
    (broken / "model.safetensors").write_bytes(weights[:begin] + b"\xff" * (len(weights) - begin))
    (data,) = (run / "processed").glob("*.jsonl")
    out = tmp_path / "out"
    done = run_cli("eval", "run", "--evaluator", "loss", "--task", data, "--model", broken, "--out", out)
    assert done.returncode == 2
    assert "broken: its loss is nan: the numbers in it have grown out of bounds" in done.stderr
    assert "lower learning rate" in done.stderr
