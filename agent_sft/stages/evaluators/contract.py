"""What an evaluator is: given a served model and a folder, it produces results in one schema.

An evaluator says what its benchmark consists of and runs the trials it is given. What is common to all of them is
done here, once: which trials are missing, what another run left behind, the score of an agent that does nothing.
"""

from __future__ import annotations

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from msgspec import structs
from pydantic import BaseModel

from agent_sft import __version__
from agent_sft.config.evaluation import LimitsConfig
from agent_sft.config.secrets import secret_values, without_secrets
from agent_sft.data.capabilities import Capability
from agent_sft.engines.cache import cached
from agent_sft.engines.nothing import serve_nothing
from agent_sft.engines.served import ServedModel
from agent_sft.errors import UserError, WorkFailed
from agent_sft.evals.results import (
    Evaluation,
    Place,
    Trial,
    failed,
    missing,
    read_results,
    read_trials,
    write_evaluation,
    write_trial,
)
from agent_sft.runs.directory import RunDirectory, now
from agent_sft.runs.lock import run_lock
from agent_sft.runs.processes import StopSignal
from agent_sft.stages.evaluators.keeping import kept_evaluation
from agent_sft.stages.reporting import EvaluationProgress, EvaluationReporter, Quiet

NOTHING = "nothing"
"""The customer of a trial that measures what an agent gets for doing nothing: it leaves at once."""


class NoParameters(BaseModel, extra="forbid"):
    """The parameters of an evaluator that takes none."""


@dataclass(frozen=True)
class EvalRun:
    """How an evaluation is run, whatever the evaluator."""

    task: str
    """What to evaluate on."""
    reporter: EvaluationReporter
    stop: StopSignal
    environment: Mapping[str, str] = field(repr=False)
    """Our variables and those of `.env`: where keys are found."""
    trials: int = 1
    limit: int | None = None
    """Only the first tasks."""
    task_ids: tuple[str, ...] = ()
    """Only these tasks."""
    user_model: str | None = None
    concurrency: int = 16
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int = 42
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    capability: Capability | None = None
    """What the server puts before every conversation."""
    only: frozenset[Place] | None = None
    """Run no others than these; None for all that have no score yet."""
    why_dead: Callable[[], str | None] = lambda: None
    """Tells why the server of the model is gone; None while it is there."""
    floor: bool = True
    """Whether the score of an agent that does nothing is wanted."""


@dataclass(frozen=True)
class Benchmark:
    """What an evaluator evaluates on."""

    name: str
    tasks: tuple[str, ...]
    """Names of those that were asked for, in the benchmark's own order."""
    families: Mapping[str, str] = field(default_factory=dict)
    """The group that a task belongs to."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the engine and of the benchmark."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Everything else that scores depend on: arguments, digests of files."""


@dataclass
class Recorder:
    """Takes finished trials: each is on the disk when `add` returns."""

    folder: Path
    total: int
    """Trials that are to be run now."""
    reporter: EvaluationReporter
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Stand in no result."""

    def __post_init__(self) -> None:
        self._started = time.monotonic()
        self.trials: dict[Place, Trial] = {}

    def add(self, trial: Trial) -> Trial:
        """Write a trial and tell how far we are; return it as it was written."""
        if trial.error is not None:
            trial = structs.replace(trial, error=without_secrets(trial.error, self.secrets))
        write_trial(self.folder, trial)
        self.trials[trial.place] = trial
        done = len(self.trials)
        rate = done / max(time.monotonic() - self._started, 1e-9)
        self.reporter.progress(
            EvaluationProgress(
                done=done,
                total=self.total,
                successes=sum(known.succeeded for known in self.trials.values()),
                failed=sum(known.score is None for known in self.trials.values()),
                rate=rate,
                remaining=(self.total - done) / rate,
            )
        )
        return trial


@dataclass(frozen=True)
class Work:
    """The trials that are to be run now, and where."""

    benchmark: Benchmark
    pending: tuple[Place, ...]
    folder: Path
    """Of the evaluation: the results lie here, and paths of transcripts start here."""
    attempt: Path
    """Of this run: logs and what the engine writes."""
    lock: int
    """Descriptor that children keep open, so that nobody else writes here before they are gone."""
    recorder: Recorder

    def task_trials(self) -> dict[str, list[int]]:
        """Return the trials to run of each task."""
        found: dict[str, list[int]] = {}
        for task, trial in self.pending:
            found.setdefault(task, []).append(trial)
        return found


class Evaluator(ABC):
    """Evaluates a served model. A subclass has a `Config`, `check`, `benchmark` and `score`."""

    kind: str
    """By which the registry made it."""
    Config: ClassVar[type[BaseModel]] = NoParameters
    serves: ClassVar[bool] = True
    """Whether it talks to a served model; else it gets one with a path and no address."""
    has_floor: ClassVar[bool] = True
    """Whether an agent that does nothing can be scored."""

    def __init__(self, **params: Any) -> None:
        self.params = params

    @abstractmethod
    def check(self, run: EvalRun) -> None:
        """Find what is wrong with the request before anything is started.

        Raises:
            UserError: saying what, and what to do.
        """

    @abstractmethod
    def benchmark(self, run: EvalRun) -> Benchmark:
        """Return the tasks that are asked for.

        Raises:
            UserError: there is no such task, with the nearest name.
        """

    @abstractmethod
    def score(self, model: ServedModel, work: Work, run: EvalRun) -> None:
        """Run the pending trials and give each to the recorder, also those whose infrastructure failed.

        Raises:
            WorkFailed: going on makes no sense; what was recorded until then stays.
            Interrupted: the user stopped it.
        """

    def shown(self, model: str, folder: Path, run: EvalRun) -> list[list[str]]:
        """Return the command lines that it will run, as far as they are known before a model is served.

        Args:
            model: stands for the name that the server will give it.
            folder: of the evaluation.
            run: what is asked for.
        """
        return []

    def recover(self, folder: Path, places: frozenset[Place]) -> list[Trial]:
        """Return the trials among `places` that an attempt finished that was killed before it wrote them down."""
        return []

    def settings(self, benchmark: Benchmark, run: EvalRun) -> dict[str, Any]:
        """Return all that scores depend on beside the model, the tasks and the limits."""
        return {
            "temperature": run.temperature,
            "max_tokens": run.max_tokens,
            "seed": run.seed,
            **benchmark.settings,
        }

    def pending(self, model: ServedModel, folder: Path, run: EvalRun) -> list[Place]:
        """Return the trials that would be run now, starting nothing.

        Raises:
            UserError: the request is wrong, or the folder holds another evaluation.
        """
        evaluation = kept_evaluation(folder, self._evaluation(model, self.benchmark(run), run))
        scored = {place for place, trial in read_trials(folder).items() if trial.score is not None}
        return [place for place in evaluation.places if place not in scored and (run.only is None or place in run.only)]

    def limits(self, run: EvalRun) -> dict[str, Any]:
        """Return what bounds a trial."""
        return run.limits.model_dump()

    def run(self, model: ServedModel, folder: Path, run: EvalRun) -> None:
        """Evaluate a model: run the trials that have no score yet, write `results.jsonl` and `evaluation.json`.

        Raises:
            UserError: the request is wrong, or the folder holds another evaluation.
            WorkFailed: trials could not be run; the same command runs those again.
            Interrupted: the user stopped it.
        """
        benchmark = self.benchmark(run)
        with run_lock(folder / "lock") as lock:
            evaluation = kept_evaluation(folder, self._evaluation(model, benchmark, run))
            if evaluation.floor is None and self.has_floor and run.floor:
                floor = self._floor(benchmark, run)
                evaluation = structs.replace(evaluation, floor=floor)
            write_evaluation(folder, evaluation)
            self._run_pending(model, evaluation, folder, run, lock)

    def _run_pending(self, model: ServedModel, evaluation: Evaluation, folder: Path, run: EvalRun, lock: int) -> None:
        benchmark = self.benchmark(run)
        asked = frozenset(evaluation.places)
        for trial in self.recover(folder, asked - read_trials(folder).keys()):
            write_trial(folder, trial)
        pending = tuple(self.pending(model, folder, run))
        if pending:
            write_evaluation(folder, structs.replace(evaluation, finished=None))
            directory = RunDirectory(folder)
            directory.record("evaluation started", evaluator=self.kind, trials=len(pending))
            secrets = (model.api_key, *secret_values(run.environment))
            recorder = Recorder(folder, len(pending), run.reporter, secrets)
            attempt = directory.new_attempt()
            try:
                self.score(model, Work(benchmark, pending, folder, attempt, lock, recorder), run)
            finally:
                run.reporter.progress_ended()
                directory.record("evaluation ended", trials=len(recorder.trials))
            run.stop.leave()
            lost = [place for place in pending if place not in recorder.trials]
            if lost:
                raise WorkFailed(f"{len(lost)} of {len(pending)} trials did not run", fix="run the same command again")
        self.finish(folder)

    def finish(self, folder: Path) -> None:
        """Note that an evaluation is finished, if all of its trials have a score."""
        evaluation, trials = read_results(folder)
        if evaluation.finished is None and not failed(trials) and not missing(evaluation, trials):
            write_evaluation(folder, structs.replace(evaluation, finished=now()))

    def _evaluation(self, model: ServedModel, benchmark: Benchmark, run: EvalRun) -> Evaluation:
        return Evaluation(
            evaluator=self.kind,
            benchmark=benchmark.name,
            model=str(model.path) if model.path is not None else model.name,
            model_digest=model.digest,
            trials=run.trials,
            tasks=list(benchmark.tasks),
            limits=self.limits(run),
            settings={
                **self.settings(benchmark, run),
                **({"capability": run.capability.digest} if run.capability is not None else {}),
            },
            user_model=run.user_model,
            floor=None,
            versions={"agent-sft": __version__, **benchmark.versions},
            started=now(),
            finished=None,
        )

    def _floor(self, benchmark: Benchmark, run: EvalRun) -> float | None:
        """Return what an agent gets that does nothing; measured once for a version of a benchmark."""
        key = {
            "evaluator": self.kind,
            "benchmark": benchmark.name,
            "tasks": benchmark.tasks,
            "versions": {"agent-sft": __version__, **benchmark.versions},
            "settings": dict(benchmark.settings),
            "user": run.user_model is not None,
        }

        def measure() -> float:
            run.reporter.say(f"measuring what an agent that does nothing gets on {benchmark.name} (once)")
            with serve_nothing() as model, tempfile.TemporaryDirectory(prefix="agent-sft-floor-") as temporary:
                return self._measured_floor(model, benchmark, Path(temporary), run)

        try:
            return float(cached("floor", key, measure))
        except WorkFailed as failure:
            run.reporter.say(f"the score of an agent that does nothing could not be measured: {failure.what}")
            return None

    def _measured_floor(self, model: ServedModel, benchmark: Benchmark, folder: Path, run: EvalRun) -> float:
        quiet = Quiet()
        customer = NOTHING if run.user_model not in (None, "scripted") else run.user_model
        alone = replace(run, trials=1, user_model=customer, reporter=quiet, only=None, why_dead=lambda: None)
        attempt = folder / "attempt"
        attempt.mkdir()
        recorder = Recorder(folder, len(benchmark.tasks), quiet)
        places = tuple((task, 0) for task in benchmark.tasks)
        with run_lock(folder / "lock") as lock:
            self.score(model, Work(benchmark, places, folder, attempt, lock, recorder), alone)
        run.stop.leave()
        scores = [trial.score for trial in recorder.trials.values() if trial.score is not None]
        if len(scores) < len(places):
            errors = [trial.error for trial in recorder.trials.values() if trial.error]
            raise WorkFailed(errors[0] if errors else "not all of its trials ran")
        return sum(scores) / len(scores)


def chosen_tasks(known: Sequence[str], run: EvalRun, where: str) -> tuple[str, ...]:
    """Return the tasks that are asked for, in the order of `known`.

    Raises:
        UserError: one of those asked for does not exist, with the nearest name; or there are none at all.
    """
    from agent_sft.errors import nearest

    for name in run.task_ids:
        if name not in known:
            hint = nearest(name, known) or f"there are {len(known)}, such as '{known[0]}'" if known else None
            raise UserError(f"there is no task '{name}'", where=where, fix=hint)
    chosen = [name for name in known if not run.task_ids or name in run.task_ids]
    if not chosen:
        raise UserError("has no tasks", where=where)
    return tuple(chosen[: run.limit])
