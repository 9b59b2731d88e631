"""Scores the benchmarks that are due at a step: on the model that trains, or on a server beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agent_sft.config.benchmark import BenchmarkConfig
from agent_sft.config.serve import ServeRequest
from agent_sft.engines.served import ServedModel
from agent_sft.errors import UserError, WorkFailed
from agent_sft.evals.outcomes import outcomes, parse_measure
from agent_sft.evals.results import Trial
from agent_sft.evals.tasks import read_tasks
from agent_sft.files import digest_value, read_lines
from agent_sft.runs.processes import StopSignal
from agent_sft.stages.bench import Bench
from agent_sft.stages.callbacks.contract import Measured, Prediction
from agent_sft.stages.evaluating import Outcome, evaluate_on
from agent_sft.stages.evaluators.tasks import TRANSCRIPTS
from agent_sft.stages.in_loop.plan import LoopPlan, evaluation
from agent_sft.stages.plan import TrainingPlan
from agent_sft.stages.reporting import EvaluationProgress, Reporter, TrainingProgress

FOLDER = "benchmarks"
"""Of the evaluations, in the run's directory."""


@dataclass(frozen=True)
class Scored:
    """What came of a benchmark at a step."""

    benchmark: BenchmarkConfig
    step: int
    measured: Measured | None
    """None where it has no score."""
    predictions: tuple[Prediction, ...]
    folder: Path | None
    said: str
    """What to tell of it, in a line."""


class _Words:
    """Passes words on, and keeps progress to itself: a bar of the training is there already."""

    def __init__(self, reporter: Reporter) -> None:
        self.say = reporter.say

    def progress(self, progress: EvaluationProgress | TrainingProgress) -> None:
        """Show nothing."""

    def progress_ended(self) -> None:
        """Show nothing."""


class Scorer:
    """Scores one model after the other."""

    def __init__(self, plan: TrainingPlan, loop: LoopPlan, key: str, reporter: Reporter, stop: StopSignal) -> None:
        """Prepare; nothing is started before it is needed.

        Args:
            plan: the training.
            loop: what is scored in it.
            key: by which the model that trains is asked.
            reporter: is told what is worth knowing.
            stop: signals that end it.
        """
        self._plan, self._loop, self._key, self._stop = plan, loop, key, stop
        self._words = _Words(reporter)
        self._folder = plan.run.path / FOLDER
        self._bench: Bench | None = None

    def score(self, benchmark: BenchmarkConfig, due: Mapping[str, Any]) -> Scored:
        """Score a benchmark on what is due.

        Args:
            benchmark: what to score.
            due: a line of `loop.due.jsonl`.

        A training is worth more than a score of it: where this one cannot be had, that is said, and it goes on.

        Raises:
            Interrupted: the user stopped it.
        """
        step = int(due["step"])
        try:
            outcome = self._here(benchmark, due) if "url" in due else self._beside(benchmark, Path(due["path"]))
        except (UserError, WorkFailed) as failure:
            return Scored(benchmark, step, None, (), None, _no_score(benchmark, step, str(failure).splitlines()[0]))
        return scored(benchmark, step, outcome)

    def close(self) -> None:
        """End the server, if there is one."""
        if self._bench is not None:
            self._bench.end()

    def _here(self, benchmark: BenchmarkConfig, due: Mapping[str, Any]) -> Outcome:
        name = f"{self._plan.output_dir.name}@{due['step']}"
        model = ServedModel(
            name=name,
            url=str(due["url"]),
            api_key=self._key,
            backend="address",
            template=str(self._plan.arguments["template"]),
            tools=True,
            max_model_len=None,
            path=None,
            digest=str(due["weights"]),
        )
        # An evaluation belongs to these weights and these options: others get a folder of their own.
        identity = digest_value([due["weights"], benchmark.model_dump(mode="json")]).removeprefix("sha256:")[:8]
        folder = self._folder / benchmark.name / f"step-{due['step']:06d}-{identity}"
        config = evaluation(benchmark, name, folder)
        return evaluate_on(None, model, config, reporter=self._words, stop=self._stop)

    def _beside(self, benchmark: BenchmarkConfig, path: Path) -> Outcome:
        if self._bench is None:
            self._bench = Bench(self._folder / "server", self._words, self._stop)
        gpus = tuple(gpu.index for gpu in self._loop.gpus) or None
        tools = benchmark.evaluator != "tasks" or any(task.tools for task in read_tasks(Path(benchmark.path)))
        capability = self._plan.config.capability
        request = ServeRequest(model=str(path), gpus=gpus, tools=tools, capability=capability)
        arguments = self._plan.arguments
        rank = int(arguments.get("lora_rank") or 8) if arguments.get("finetuning_type") == "lora" else None
        model = self._bench.have(request, rank)
        identity = digest_value([model.digest, benchmark.model_dump(mode="json")]).removeprefix("sha256:")[:8]
        folder = self._folder / benchmark.name / f"{path.name.replace('checkpoint', 'step')}-{identity}"
        config = evaluation(benchmark, str(path), folder, capability)
        return evaluate_on(self._bench.server, model, config, reporter=self._words, stop=self._stop)


def scored(benchmark: BenchmarkConfig, step: int, outcome: Outcome) -> Scored:
    """Return what an evaluation says of a benchmark."""
    # Its intervals take a third of a second to import, and most trainings have no benchmark.
    from agent_sft.evals.statistics import estimate

    found = outcomes(outcome.evaluation, outcome.trials)
    metrics: dict[str, float] = {}
    for name in benchmark.metrics:
        one = estimate(parse_measure(name), found)
        for suffix, value in (("", one.value), ("_low", one.low), ("_high", one.high)):
            if value is not None:
                metrics[benchmark.key(name) + suffix] = round(float(value), 6)
    predictions = tuple(_predictions(step, outcome))
    if benchmark.score_key not in metrics:
        lost = f"{len(outcome.failed)} of {len(outcome.evaluation.places)} answers could not be judged"
        reason = next((f": {trial.error}" for trial in outcome.failed), "")
        return Scored(benchmark, step, None, predictions, outcome.folder, _no_score(benchmark, step, f"{lost}{reason}"))
    metrics[benchmark.key("tasks")] = float(len(outcome.evaluation.tasks))
    if outcome.failed:
        metrics[benchmark.key("unscored")] = float(len(outcome.failed))
    measured = Measured(step, benchmark.split, metrics)
    return Scored(benchmark, step, measured, predictions, outcome.folder, said_of(benchmark, measured))


def said_of(benchmark: BenchmarkConfig, measured: Measured) -> str:
    """Say a score, with what it is made of."""
    metrics, key = measured.metrics, benchmark.score_key
    low, high = metrics.get(f"{key}_low"), metrics.get(f"{key}_high")
    interval = f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
    unscored = int(metrics.get(benchmark.key("unscored"), 0))
    left_out = f", {unscored} answers could not be judged" if unscored else ""
    tasks = int(metrics[benchmark.key("tasks")])
    return f"step {measured.step}: {key} {metrics[key]:.3f}{interval}, {tasks} tasks{left_out}"


def _no_score(benchmark: BenchmarkConfig, step: int, why: str) -> str:
    return f"step {step}: {benchmark.score_key} has no score: {why}"


def _predictions(step: int, outcome: Outcome) -> list[Prediction]:
    said: dict[tuple[str, int], dict[str, Any]] = {}
    for path in sorted(outcome.folder.glob(f"attempts/*/{TRANSCRIPTS}")):
        for line in read_lines(path):
            said[line["task"], line["trial"]] = line["messages"][-1]
    return [_prediction(step, trial, said.get(trial.place)) for trial in outcome.trials]


def _prediction(step: int, trial: Trial, message: Mapping[str, Any] | None) -> Prediction:
    calls = [call.get("function", {}) for call in (message or {}).get("tool_calls") or []]
    return Prediction(
        step=step,
        task_id=trial.task,
        trial=trial.trial,
        score=trial.score,
        answer=(message.get("content") or "") if message is not None else None,
        tool_calls=msgspec.to_builtins(calls),
        reason=trial.error or trial.detail.get("reason"),
    )
