"""An experiment, from its file to its conclusion, with the real LLaMA-Factory: stopped, gone on with, finished."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_sft.errors import UserError
from agent_sft.experiment import Experiment
from tests.conftest import MadeOnce
from tests.support import heed_interrupts, tree

pytestmark = pytest.mark.slow

PLACES = ("kitchen", "garden", "cellar", "attic")


def experiment(folder: Path) -> Path:
    """Write an experiment whose loss falls to the end, while its benchmark is best at the beginning."""
    (folder / "tasks").mkdir(parents=True)
    rows = [{"query": f"Where is thing {number}?", "place": PLACES[number % 4]} for number in range(48)]
    (folder / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    # Before it has learned anything, a random model answers with anything but the form of the training data.
    verifier = {"fn_name": "python", "function": "judge.py:formless"}
    tasks = [
        {"task_id": f"t{number}", "instruction": row["query"], "verifier": verifier} for number, row in enumerate(rows)
    ]
    (folder / "tasks" / "tasks.jsonl").write_text("".join(f"{json.dumps(task)}\n" for task in tasks[:6]))
    (folder / "tasks" / "judge.py").write_text(
        "def formless(answer, expected):\n    return '<answer>' not in answer.text\n"
    )
    content = {
        "name": "formless",
        "hypothesis": "It forgets how to be formless: early/pass@1 >= 0.5, once/pass@1 > 1",
        "output_dir": str(folder / "outputs"),
        "run": {
            "data": {
                "path": str(folder / "train.jsonl"),
                "transforms": [
                    {
                        "kind": "jsonl_to_chat",
                        "params": {"user_template": "{query}", "assistant_template": "<answer>{place}</answer>"},
                    }
                ],
            },
            "model": {"name": "tiny"},
            "algorithm": {
                "kind": "sft",
                "params": {
                    "learning_rate": 0.0003,
                    "max_steps": 36,
                    "batch_size": 8,
                    "finetuning_type": "full",
                    "max_seq_len": 256,
                    "save_every": 12,
                    "val_size": 8,
                    "best_by": "early",
                    "set": {"save_total_limit": 1},
                },
            },
        },
        "callbacks": [{"kind": "tensorboard", "params": {"project": str(folder / "board")}}, {"kind": "local_logger"}],
        "benchmarks": [
            {"name": "early", "path": str(folder / "tasks"), "run_every": 12, "max_tokens": 16},
            {"name": "once", "path": str(folder / "tasks"), "split": "test", "max_tokens": 16, "limit": 3},
        ],
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(made_once: MadeOnce) -> Path:
    """Of an experiment that was stopped after the first score, gone on with, and finished."""

    def make(folder: Path) -> None:
        path = experiment(folder)
        command = [sys.executable, "-P", "-m", "agent_sft", "experiment", "run", str(path)]
        metrics = folder / "outputs" / "formless" / "metrics.jsonl"
        with (folder / "first.log").open("w") as log:
            run = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=heed_interrupts)
            while run.poll() is None and not (metrics.is_file() and '"step":12,"split":"val"' in metrics.read_text()):
                time.sleep(0.02)
            run.send_signal(signal.SIGINT)
            assert run.wait(timeout=300) in (0, 130), (folder / "first.log").read_text()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        (folder / "second.log").write_text(done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr

    return made_once("experiment", make)


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """The run's directory."""
    return folder / "outputs" / "formless"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_benchmark_chooses_another_checkpoint_than_the_loss(run: Path) -> None:
    found = lines(run / "metrics.jsonl")
    scores = {line["step"]: line["metrics"]["val/early/pass@1"] for line in found if line["split"] == "val"}
    losses = {line["step"]: line["metrics"]["eval_mean_nll"] for line in found if line["split"] == "eval"}
    assert scores == {0: 1.0, 12: 1.0, 24: 0.0, 36: 0.0}
    assert min(losses, key=lambda step: losses[step]) == 36
    assert sorted(path.name for path in run.glob("checkpoint-*")) == ["checkpoint-12", "checkpoint-36"]
    final, chosen, last = (
        (place / "model.safetensors").read_bytes() for place in (run, run / "checkpoint-12", run / "checkpoint-36")
    )
    assert final == chosen != last


def test_no_step_stands_twice_in_the_metrics(run: Path) -> None:
    found = [(line["step"], line["split"]) for line in lines(run / "metrics.jsonl")]
    assert found.count((12, "val")) == 1
    assert sorted(step for step, split in found if split == "train") == list(range(1, 37))
    assert len(found) == len(set(found))
    assert sum(line["step"] == 12 for line in lines(run / "predictions" / "early.jsonl")) == 6


def test_what_is_scored_once_is_scored_on_the_model_that_was_chosen(run: Path) -> None:
    found = [line for line in lines(run / "metrics.jsonl") if line["split"] == "test"]
    assert [(line["step"], line["metrics"]["test/once/pass@1"]) for line in found] == [(12, 1.0)]
    assert found[0]["metrics"]["test/once/tasks"] == 3


def test_the_conclusion_holds_the_hypothesis_against_the_numbers(folder: Path) -> None:
    text = (folder / "outputs" / "experiment.md").read_text()
    assert "Status: completed" in text
    assert "- early/pass@1 >= 0.5: holds" in text
    assert "- once/pass@1 > 1: does not hold" in text
    assert "- val/early/pass@1 cannot be told to have changed: 1.000" in text
    printed = (folder / "second.log").read_text()
    assert "going on from checkpoint-" in printed
    assert "Status:     completed" in printed
    assert "| 24 | 0.000 |" in (folder / "outputs" / "formless" / "summary.md").read_text()


def test_scores_reach_the_trainers_own_record_and_its_trackers(folder: Path, run: Path) -> None:
    history = json.loads((run / "trainer_state.json").read_text())["log_history"]
    assert {entry["step"]: entry["val/early/pass@1"] for entry in history if "val/early/pass@1" in entry}[24] == 0.0
    events = b"".join(path.read_bytes() for path in (folder / "board").rglob("events.*"))
    assert b"val/early/pass@1" in events


def test_the_same_experiment_again_does_nothing_and_says_what_there_is(folder: Path, run: Path) -> None:
    before = tree(run)
    result = Experiment.from_file(folder / "experiment.yaml").run()
    assert (result.status, result.exit_code) == ("completed", 0)
    assert result.conclusion[0].startswith("early/pass@1 >= 0.5: holds")
    assert {"model", "metrics", "summary", "predictions of early", "report"} <= set(result.artifacts)
    assert tree(run) == before


def changed(folder: Path, source: Path, place: str, value: object, **more: object) -> Path:
    """Write the experiment with another value in its data, and an output of its own."""
    content = yaml.safe_load((source / "experiment.yaml").read_text())
    content["run"]["data"][place] = value
    content.update(output_dir=str(folder / "outputs"), **more)
    (folder / "changed.yaml").write_text(yaml.safe_dump(content))
    return folder / "changed.yaml"


def test_rows_that_cannot_be_trained_on_fail_it_with_what_to_do(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"query": "a", "place": "b"}\n{"query": "c"}\n')
    path = changed(tmp_path, folder, "path", str(tmp_path / "rows.jsonl"))
    content = yaml.safe_load(path.read_text())
    content["run"]["data"]["transforms"][0]["params"]["on_missing"] = "reject"
    path.write_text(yaml.safe_dump(content))
    result = Experiment.from_file(path).run()
    assert (result.status, result.exit_code) == ("failed", 1)
    assert "1 row cannot be trained on" in result.conclusion[0]
    assert "give `allow_rejects: true`" in result.conclusion[1]
    assert "Status: failed" in (tmp_path / "outputs" / "experiment.md").read_text()


def test_a_refused_experiment_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    verifier = {"fn_name": "python", "function": "judge.py:judge"}
    task = {"task_id": "a", "instruction": "1 + 1?", "verifier": verifier}
    (tmp_path / "tasks" / "tasks.jsonl").write_text(json.dumps(task))
    (tmp_path / "tasks" / "judge.py").write_text("def judge(answer, expected):\n    raise OSError('no network')\n")
    benchmarks = [{"name": "early", "path": str(tmp_path / "tasks"), "run_every": 5}]
    path = changed(tmp_path, folder, "source_kind", "jsonl", benchmarks=benchmarks)
    with pytest.raises(UserError, match="the verifiers of 1 tasks fail on an empty answer"):
        Experiment.from_file(path).run()
    assert not (tmp_path / "outputs").exists()
