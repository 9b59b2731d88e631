"""What of a training is scored, when, where, and what comes of the scores: decided before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agent_sft.config.benchmark import BenchmarkConfig
from agent_sft.config.callbacks import CallbackConfig
from agent_sft.config.evaluation import EvaluationConfig, LimitsConfig
from agent_sft.config.sft import SFTConfig
from agent_sft.errors import UserError
from agent_sft.evals.tasks import read_tasks, tasks_file
from agent_sft.evals.verifiers.contract import Answer, VerifierFailed
from agent_sft.files import digest_file
from agent_sft.runs.devices import Gpu
from agent_sft.stages.callbacks.registry import make_callbacks
from agent_sft.stages.evaluating import check_request
from agent_sft.stages.in_loop.best import EVAL, metric_key
from agent_sft.stages.plan import TrainingPlan

SMALL = 256
"""Tasks that one model answers in a minute or so: until then the training had better wait for them."""
TRIED = 20
"""Tasks whose verifiers are tried beforehand, at most."""
REQUEST_SECONDS = 1800
"""How long an answer may take: whole batches are generated, on processors too."""
LOCAL_LOGGER = CallbackConfig(kind="local_logger")
TRAINERS = ("load_best_model_at_end", "metric_for_best_model", "greater_is_better", "early_stopping_steps")
"""Settings of the trainer that choose a model by its own metrics."""


@dataclass(frozen=True)
class LoopPlan:
    """What is scored while a model trains."""

    benchmarks: tuple[BenchmarkConfig, ...]
    callbacks: tuple[CallbackConfig, ...]
    where: Literal["in_process", "server"]
    why: str
    """The reason for `where`, as it is said."""
    best_by: str | None
    """The metric that chooses the model, by its whole name; None where no benchmark does."""
    gpus: tuple[Gpu, ...]
    """Those of the server beside the training."""

    @property
    def every(self) -> list[int]:
        """The steps between two scorings, of each benchmark that is scored while it trains."""
        return [one.run_every for one in self.benchmarks if one.run_every]

    def due(self, step: int, *, last: bool, chosen: bool = False) -> list[BenchmarkConfig]:
        """Return the benchmarks that are due at a step.

        Args:
            step: 0 before the first one.
            last: whether it is the last one.
            chosen: whether training has ended, and the model that was chosen is scored.
        """
        if chosen:
            return [one for one in self.benchmarks if not one.run_every]
        return [one for one in self.benchmarks if one.run_every and (last or step % one.run_every == 0)]


def plan_loop(plan: TrainingPlan) -> LoopPlan | None:
    """Return what is scored while a plan trains; None where nothing is, and nobody watches.

    Raises:
        UserError: a metric or a kind is unknown, or benchmarks want to be scored in different places.
    """
    config = plan.config
    if not (config.benchmark or config.callbacks or config.save_at):
        return None
    benchmarks = config.benchmarks
    make_callbacks(config.callbacks, where="callbacks")
    spare = plan.gpus[plan.launch.processes :]
    where, why = _where(benchmarks, spare, capability=config.capability is not None)
    return LoopPlan(
        benchmarks=benchmarks,
        callbacks=config.callbacks or (LOCAL_LOGGER,),
        where=where,
        why=why,
        best_by=best_metric(config, plan.arguments),
        gpus=spare[:1] if where == "server" else (),
    )


def best_metric(config: SFTConfig, arguments: Mapping[str, Any]) -> str | None:
    """Return the benchmark's metric that chooses the model; None where none does.

    Raises:
        UserError: there is no such metric.
    """
    named = config.best_by
    if named is None and config.benchmark and arguments.get("load_best_model_at_end"):
        named = str(arguments.get("metric_for_best_model") or EVAL)
        named = EVAL if named in ("loss", EVAL) else named
    return None if named in (None, EVAL) else metric_key(str(named), config.benchmarks, where="--best-by")


def loop_inputs(config: SFTConfig, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the outcome of a training depends on: nothing where scores and callbacks only watch."""
    decides = [one for one, made in zip(config.callbacks, made_callbacks(config), strict=True) if made.decides]
    best = best_metric(config, arguments)
    found: dict[str, Any] = {"saved at": list(config.save_at)} if config.save_at else {}
    if best is not None or decides:
        found["best by"] = best
        found["callbacks"] = [one.model_dump(mode="json") for one in decides]
        found["benchmarks"] = {one.name: _identity(one) for one in config.benchmarks if one.run_every}
    return found


def made_callbacks(config: SFTConfig) -> list[Any]:
    """Return the callbacks of a training."""
    return make_callbacks(config.callbacks, where="callbacks")


def evaluation(benchmark: BenchmarkConfig, model: str, out: Path, capability: str | None = None) -> EvaluationConfig:
    """Return the evaluation that scores a benchmark.

    Args:
        benchmark: what is scored.
        model: a folder, or what the model is called where it is none.
        out: the evaluation's folder.
        capability: what the server puts before conversations.
    """
    return EvaluationConfig(
        model=model,
        evaluator=benchmark.evaluator,
        task=benchmark.path,
        out=out,
        trials=benchmark.trials,
        limit=benchmark.limit,
        user_model=benchmark.user_model,
        concurrency=benchmark.batch_size,
        temperature=benchmark.temperature,
        max_tokens=benchmark.max_tokens,
        seed=benchmark.seed,
        limits=LimitsConfig(request_timeout=REQUEST_SECONDS),
        params=benchmark.params,
        serve={"capability": capability} if capability is not None else {},
    )


def check_benchmarks(benchmarks: tuple[BenchmarkConfig, ...]) -> None:
    """Find what is wrong with benchmarks before anything is spent.

    Raises:
        UserError: tasks are missing or cannot be read, or no verifier works.
    """
    for benchmark in benchmarks:
        try:
            check_request(evaluation(benchmark, "-", Path("-")))
            if benchmark.evaluator == "tasks":
                _try_verifiers(benchmark)
        except UserError as error:
            where = f"benchmark '{benchmark.name}'" + (f", {error.where}" if error.where else "")
            raise UserError(error.what, where=where, fix=error.fix) from error


def late_benchmarks(benchmarks: tuple[BenchmarkConfig, ...], steps: int) -> list[str]:
    """Return what to say of benchmarks that are never due before the last of so many steps."""
    return [
        f"benchmark '{one.name}': run_every is {one.run_every}, the training has {steps} steps: it is scored after the"
        " last one alone"
        for one in benchmarks
        if one.run_every and one.run_every > steps
    ]


def _try_verifiers(benchmark: BenchmarkConfig) -> None:
    """Judge an empty answer to some tasks: a verifier that cannot judge that will judge no other."""
    reasons = []
    for task in read_tasks(Path(benchmark.path))[: min(TRIED, benchmark.limit or TRIED)]:
        try:
            task.verifier.judge(Answer())
        except VerifierFailed as failure:
            reasons.append(f"task '{task.id}': {failure}")
        else:
            return
    fix = "mend it: no answer could be judged"
    raise UserError(f"the verifiers of {len(reasons)} tasks fail on an empty answer: {reasons[0]}", fix=fix)


def _where(
    benchmarks: tuple[BenchmarkConfig, ...], spare: tuple[Gpu, ...], *, capability: bool
) -> tuple[Literal["in_process", "server"], str]:
    asked = {one.where for one in benchmarks} - {"auto"}
    if len(asked) > 1:
        fix = "give all of them the same `where`, or leave it out"
        raise UserError("some are scored in_process, others on a server", where="benchmarks", fix=fix)
    if "server" in asked:
        return "server", "asked for"
    if capability:
        if "in_process" in asked:
            what = "the model that trains answers without the capability"
            raise UserError(what, where="benchmarks", fix="leave `where: in_process` out")
        return "server", "it puts the capability before conversations"
    if "in_process" in asked:
        return "in_process", "asked for"
    large = [one.name for one in benchmarks if one.evaluator != "tasks" or _count(one) > SMALL]
    if not large:
        return "in_process", "the sets are small and take one answer a task"
    if spare:
        return "server", f"{', '.join(large)} would keep the training waiting, and GPU {spare[0].index} is free"
    return "in_process", f"no device is left beside the training, which waits while {', '.join(large)} is scored"


def _count(benchmark: BenchmarkConfig) -> int:
    try:
        tasks = len([line for line in tasks_file(Path(benchmark.path)).read_bytes().split(b"\n") if line.strip()])
    except UserError:
        return 0  # told with all its words when the benchmark is checked
    return min(tasks, benchmark.limit or tasks) * benchmark.trials


def _identity(benchmark: BenchmarkConfig) -> dict[str, Any]:
    known = benchmark.model_dump(mode="json", exclude={"where", "batch_size", "path"})
    path = Path(benchmark.path)
    if benchmark.evaluator == "tasks" and path.exists():
        return {**known, "tasks": digest_file(tasks_file(path))}
    return {**known, "path": benchmark.path}
