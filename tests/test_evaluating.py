"""Evaluations of a trained model that vLLM serves: what counts is that every layer is real, and what is told of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_sft.config.evaluation import EvaluationConfig
from agent_sft.engines.served import ServedModel
from agent_sft.errors import UserError
from agent_sft.evals.results import read_results
from agent_sft.runs.processes import catch_signals
from agent_sft.stages.evaluating import Outcome, evaluate, evaluate_on, pending
from agent_sft.stages.reporting import Quiet
from agent_sft.stages.serving import Server, ServeRequest, serve
from tests.conftest import ROOT, RunCli
from tests.serving import other_adapter, train

pytestmark = pytest.mark.slow

DOMAINS = ("airline", "retail", "telecom")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, run_cli: RunCli) -> Path:
    return train(run_cli, tmp_path_factory.mktemp("runs") / "full")


@pytest.fixture(scope="module")
def server(run: Path, serve_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with (
        catch_signals() as stop,
        serve(
            ServeRequest(model=str(run), lora_later=8), place=tmp_path_factory.mktemp("server"), stop=stop
        ) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def adapters(run: Path, run_cli: RunCli) -> list[Path]:
    """Three adapters of the run's base."""
    first = train(run_cli, run.parent / "lora", "--model", str(run / "base"), "--finetuning-type", "lora")
    return [first, *(other_adapter(first, run.parent / f"lora-{seed}", seed) for seed in range(2))]


def greeting(folder: Path) -> Path:
    """A task that any answer solves."""
    row = {"task_id": "hello", "instruction": "Hello", "verifier": {"fn_name": "regex", "pattern": "(?s).*"}}
    folder.mkdir(exist_ok=True)
    (folder / "tasks.jsonl").write_text(json.dumps(row))
    return folder


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


def test_a_run_is_served_for_its_evaluation_and_not_twice(run_cli: RunCli, run: Path, tmp_path: Path) -> None:
    task, out = greeting(tmp_path / "task"), tmp_path / "out"
    given = ("eval", "run", "--evaluator", "tasks", "--task", task, "--model", run, "--out", out)
    done = run_cli(*given, "--max-tokens", "8", "--trials", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    evaluation, trials = read_results(tmp_path / "out")
    assert [trial.score for trial in trials] == [1, 1]
    assert evaluation.model == str(run)
    assert str(evaluation.model_digest).startswith("sha256:")
    assert (tmp_path / "out" / "server" / "server.log").stat().st_size
    again = run_cli(*given, "--max-tokens", "8", "--trials", "2")
    assert again.returncode == 0, again.stderr
    assert "finished already" in again.stderr
    assert "starting" not in again.stderr


def test_what_one_server_serves_in_turn_is_evaluated_each_under_its_own_name(
    server: Server, run: Path, adapters: list[Path], tmp_path: Path
) -> None:
    task = greeting(tmp_path / "task")
    other = shutil.copytree(run, tmp_path / "other", ignore=shutil.ignore_patterns("checkpoint-*", "base"))
    weights = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(weights[:-4] + weights[-8:-4])

    def asked(model: Path) -> EvaluationConfig:
        out = tmp_path / f"out-{model.name}"
        return EvaluationConfig(model=str(model), evaluator="tasks", task=str(task), out=out, max_tokens=8)

    with catch_signals() as stop:

        def evaluated(model: ServedModel, folder: Path) -> Outcome:
            return evaluate_on(server, model, asked(folder), reporter=Quiet(), stop=stop)

        found = [evaluated(server.load_adapter(f"a{number}", folder), folder) for number, folder in enumerate(adapters)]
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
        for folder in (*adapters, run, other):
            assert pending(asked(folder)) == []
            assert evaluate(asked(folder), reporter=Quiet(), stop=stop).evaluation.finished, "without a server"
        longer = asked(run).model_copy(update={"trials": 2})
        with pytest.raises(UserError, match="holds another evaluation"):
            pending(longer)
    for number in range(3):
        server.unload_adapter(f"a{number}")


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
