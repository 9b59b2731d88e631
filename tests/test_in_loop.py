"""Scores while a model trains: which step is best, when it ends, what is written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent_sft.config.benchmark import BenchmarkConfig
from agent_sft.config.callbacks import CallbackConfig
from agent_sft.errors import UserError
from agent_sft.evals.results import Evaluation, Trial
from agent_sft.stages.callbacks.contract import Begin, Callback, End, Measured, Prediction
from agent_sft.stages.callbacks.registry import make_callbacks
from agent_sft.stages.evaluating import Outcome
from agent_sft.stages.in_loop.best import Best, metric_key
from agent_sft.stages.in_loop.loop import of_log
from agent_sft.stages.in_loop.plan import check_benchmarks
from agent_sft.stages.in_loop.scoring import scored

VAL = BenchmarkConfig(path="data/val", run_every=5, metrics=("pass@1", "score"))
KEY = "val/val/pass@1"


def made(kind: str, **params: object) -> Callback:
    return make_callbacks([CallbackConfig(kind=kind, params=params)], where="callbacks")[0]


def begun(folder: Path, *, step: int = 0, history: tuple[Measured, ...] = ()) -> Begin:
    return Begin("run", folder, (VAL,), step, history, KEY, lambda text: None)


def val(step: int, score: float) -> Measured:
    return Measured(step, "val", {KEY: score, "val/val/tasks": 4.0})


@pytest.mark.parametrize("name", ["val", "val/pass@1", "val/val/pass@1", "eval_val"])
def test_a_metric_has_short_names(name: str) -> None:
    assert metric_key(name, [VAL], where="here") == KEY


@pytest.mark.parametrize(
    ("name", "message"), [("vla", "did you mean 'val'"), ("once", "is scored once, when the training has ended")]
)
def test_a_metric_that_is_not_measured_while_it_trains(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        metric_key(name, [VAL, BenchmarkConfig(name="once", path="data/once")], where="here")


def test_the_first_of_equals_is_best_and_the_untrained_model_never() -> None:
    best = Best(KEY)
    for step, score in ((0, 0.9), (5, 0.4), (10, 0.6), (15, 0.6)):
        best.add(val(step, score))
    assert (best.found, best.since) == ((10, 0.6), 1)


def test_early_stopping_waits_for_its_patience_and_goes_on_counting_after_a_resume(tmp_path: Path) -> None:
    stopping = made("early_stopping", patience=2, threshold=0.01)
    stopping.on_begin(begun(tmp_path))
    whys = [stopping.on_metrics(val(step, score)) for step, score in ((5, 0.5), (10, 0.505), (15, 0.4))]
    assert whys[:2] == [None, None]
    assert whys[2] == f"{KEY} is no better than the 0.500 of step 5 for 2 scorings"
    resumed = made("early_stopping", patience=2)
    resumed.on_begin(begun(tmp_path, step=10, history=(val(5, 0.5), val(10, 0.4))))
    assert resumed.on_metrics(val(15, 0.3)) is not None


def test_a_loss_is_better_when_it_is_lower(tmp_path: Path) -> None:
    stopping = made("early_stopping", metric="eval_loss", patience=1)
    stopping.on_begin(begun(tmp_path))
    seen = [stopping.on_metrics(Measured(step, "eval", {"eval_mean_nll": loss})) for step, loss in ((1, 2.0), (2, 1.0))]
    assert seen == [None, None]
    assert stopping.on_metrics(Measured(3, "eval", {"eval_mean_nll": 1.5})) is not None


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_logger_writes_nothing_twice_after_a_resume(tmp_path: Path) -> None:
    logger = made("local_logger")
    train = [Measured(step, "train", {"train_mean_nll": 1.0 / step}) for step in range(1, 8)]
    logger.on_begin(begun(tmp_path))
    for measured in train:
        logger.on_metrics(measured)
    for step in (5, 7):
        logger.on_predictions(VAL, [Prediction(step, "a", 0, 1.0, "yes")])
        logger.on_metrics(val(step, 0.5))
    again = made("local_logger")
    again.on_begin(begun(tmp_path, step=5, history=(*train[:5], val(5, 0.5))))
    again.on_metrics(train[5])
    found = lines(tmp_path / "metrics.jsonl")
    assert [(line["step"], line["split"]) for line in found] == [
        *((step, "train") for step in range(1, 6)),
        (5, "val"),
        (6, "train"),
    ]
    assert found[5] == {"step": 5, "split": "val", "metrics": {KEY: 0.5, "val/val/tasks": 4.0}}
    assert [line["step"] for line in lines(tmp_path / "predictions" / "val.jsonl")] == [5]


def test_the_summary_has_every_score(tmp_path: Path) -> None:
    logger = made("local_logger")
    logger.on_begin(begun(tmp_path))
    logger.on_metrics(val(5, 0.25))
    logger.on_end(End("completed", 9, "no better", (5, 0.25)))
    text = (tmp_path / "summary.md").read_text()
    assert "Status: completed after 9 steps (no better)" in text
    assert "the weights of step 5, the best by val/val/pass@1" in text
    assert "| 5 | 0.250 | – | – | 4 |" in text


def outcome(folder: Path, scores: list[float | None]) -> Outcome:
    trials = tuple(
        Trial(task=str(number), trial=0, score=score, ended="done" if score is not None else "error",
              error=None if score is not None else "the verifier failed: no such module")
        for number, score in enumerate(scores)
    )  # fmt: skip
    names = [trial.task for trial in trials]
    facts: dict[str, Any] = {
        "limits": {},
        "settings": {},
        "user_model": None,
        "floor": None,
        "versions": {},
    }
    evaluation = Evaluation(
        evaluator="tasks",
        benchmark="val",
        model="m",
        model_digest=None,
        trials=1,
        tasks=names,
        started="",
        finished=None,
        **facts,
    )
    return Outcome(folder, evaluation, trials)


def test_a_score_carries_its_tasks_and_its_interval(tmp_path: Path) -> None:
    found = scored(VAL, 5, outcome(tmp_path, [1.0, 0.0, 0.5, None]))
    assert found.measured is not None
    metrics = found.measured.metrics
    assert metrics[KEY] == pytest.approx(1 / 3, abs=1e-5)
    assert metrics["val/val/score"] == 0.5
    assert metrics[f"{KEY}_low"] < 1 / 3 < metrics[f"{KEY}_high"]
    assert (metrics["val/val/tasks"], metrics["val/val/unscored"]) == (4, 1)
    assert found.said.startswith("step 5: val/val/pass@1 0.333 [")
    assert found.said.endswith("4 tasks, 1 answers could not be judged")


def test_answers_that_nobody_could_judge_are_no_score_of_zero(tmp_path: Path) -> None:
    found = scored(VAL, 5, outcome(tmp_path, [None, None]))
    assert found.measured is None
    assert found.said == (
        "step 5: val/val/pass@1 has no score: 2 of 2 answers could not be judged: the verifier failed: no such module"
    )
    assert [one.reason for one in found.predictions] == ["the verifier failed: no such module"] * 2


def test_verifiers_that_all_fail_are_found_before_the_training(tmp_path: Path) -> None:
    verifier = {"fn_name": "python", "function": "judge.py:judge"}
    tasks = [{"task_id": name, "instruction": "1 + 1?", "verifier": verifier} for name in "ab"]
    (tmp_path / "tasks.jsonl").write_text("\n".join(map(json.dumps, tasks)))
    (tmp_path / "judge.py").write_text("def judge(answer, expected):\n    raise RuntimeError('no network')\n")
    with pytest.raises(UserError) as refused:
        check_benchmarks((BenchmarkConfig(path=str(tmp_path)),))
    assert "the verifiers of 2 tasks fail on an empty answer: task 'a'" in str(refused.value)
    assert "no network" in str(refused.value)
    (tmp_path / "judge.py").write_text("def judge(answer, expected):\n    return '2' in answer.text\n")
    check_benchmarks((BenchmarkConfig(path=str(tmp_path)),))


def test_the_trainers_log_is_read_as_metrics() -> None:
    line = {"current_steps": 3, "total_steps": 9, "loss": 1.5, "lr": 0.1, "epoch": 0.5}
    assert list(of_log(line)) == [Measured(3, "train", {"train_mean_nll": 1.5, "optim/lr": 0.1, "progress/epoch": 0.5})]
    assert list(of_log({"current_steps": 3, "eval_loss": 2.0})) == [Measured(3, "eval", {"eval_mean_nll": 2.0})]
