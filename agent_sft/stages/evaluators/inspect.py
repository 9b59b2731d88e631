"""Any task of Inspect, those of inspect_evals' tau2 among them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agent_sft.engines.environments import engine_python, given_python, is_made
from agent_sft.engines.inspect.launch import (
    AGENT_SERVICE,
    USER_SERVICE,
    address_model,
    command,
    environment,
    log_file,
    samples_of,
)
from agent_sft.engines.inspect.tasks import SHARED, InspectTask, describe_task, inspect_versions
from agent_sft.engines.lines import LineFollower
from agent_sft.engines.served import ServedModel
from agent_sft.errors import UserError, WorkFailed
from agent_sft.evals.results import Place, Trial
from agent_sft.files import read_json, write_json
from agent_sft.runs.processes import Child
from agent_sft.stages.evaluators.contract import Benchmark, EvalRun, Evaluator, Work, chosen_tasks
from agent_sft.stages.evaluators.customer import Customer, Provided, check_customer, customer_of
from agent_sft.stages.evaluators.patience import Patience
from agent_sft.stages.evaluators.registry import register_evaluator

POLL_SECONDS = 0.2
STOP_SECONDS = 20.0
"""How long Inspect may take to write its log when it is stopped."""
WANTS_USER = ("inspect_evals/tau2_",)
"""Tasks whose customer is a model."""


@register_evaluator("inspect")
class InspectEvaluator(Evaluator):
    """Runs a task by Inspect in an environment of its own; trials are its epochs."""

    class Config(BaseModel, extra="forbid"):
        """Parameters of the evaluator."""

        args: dict[str, Any] = {}
        """The task's own arguments (`-T` of Inspect)."""
        scorer: str | None = None
        """Which scorer counts, `NAME` or `NAME.KEY`; the first when not given."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.config = self.Config(**params)
        self._task: tuple[str, InspectTask] | None = None

    def check(self, run: EvalRun) -> None:
        """Check the task and who plays the customer."""
        check_customer(run)
        self.benchmark(run)
        if run.task.startswith(WANTS_USER) and run.user_model in (None, "scripted"):
            raise UserError(
                "this benchmark has no scripted customer: a model plays it",
                where="--user-model",
                fix="give openai/gpt-4.1, an address, or local",
            )

    def benchmark(self, run: EvalRun) -> Benchmark:
        """Return the samples that are asked for."""
        python = engine_python("eval")
        versions = inspect_versions(python)
        task = self._described(python, versions, run)
        settings: dict[str, Any] = {"args": dict(task.args), "scorer": self.config.scorer}
        if task.digest is not None:
            settings["files"] = task.digest
        return Benchmark(
            name=task.name if task.digest is None else Path(task.name).name,
            tasks=chosen_tasks(task.samples, run, run.task),
            families=task.families,
            versions={**versions, task.name: task.version},
            settings=settings,
        )

    def score(self, model: ServedModel, work: Work, run: EvalRun) -> None:
        """Run the pending trials in one process of Inspect and take over each outcome as it comes."""
        python = engine_python("eval")
        task = self._described(python, inspect_versions(python), run)
        customer = customer_of(run, model)
        write_json(work.attempt / "order.json", self._order(model, customer, task, work, run))
        user_key = customer.api_key if isinstance(customer, ServedModel) else None
        log = work.attempt / "inspect.log"
        child = Child(
            SHARED.forked(command(python, work.attempt)),
            log=log,
            env=environment(run.environment, model.api_key, user_key, python),
            hold=[work.lock],
        )
        lines, patience = samples_of(work.attempt), Patience(run)
        try:
            while (status := child.poll()) is None:
                self._take(lines, work, patience)
                if run.stop.count:
                    self._end(child)
                    self._take(lines, work, patience)
                    run.stop.leave()
                patience.check(log)
                time.sleep(POLL_SECONDS)
            self._take(lines, work, patience)
        finally:
            child.kill()
        if status != 0 or len(work.recorder.trials) < len(work.pending):
            patience.check(log)
            raise WorkFailed(f"Inspect ended before all trials had (exit code {status})", log=log)

    def shown(self, model: str, folder: Path, run: EvalRun) -> list[list[str]]:
        """Return the command that runs an order, which stands in the attempt's folder."""
        python = engine_python("eval") if given_python("eval") or is_made("eval") else Path(".venvs/eval/bin/python")
        return [command(python, folder / "attempts" / "N")]

    def recover(self, folder: Path, places: frozenset[Place]) -> list[Trial]:
        """Return the trials that stand in the logs of earlier attempts and not yet in the results."""
        found: dict[Place, Trial] = {}
        for attempt in sorted((folder / "attempts").glob("*"), key=lambda path: int(path.name)):
            order = read_json(attempt / "order.json") or {}
            for line in samples_of(attempt).new_lines():
                trial = _trial(line, folder, attempt, order.get("families", {}))
                if trial.place in places:
                    found[trial.place] = trial
        return list(found.values())

    def _described(self, python: Path, versions: dict[str, str], run: EvalRun) -> InspectTask:
        if self._task is None or self._task[0] != run.task:
            named = run.user_model if run.user_model and "/" in run.user_model and "://" not in run.user_model else None
            self._task = run.task, describe_task(python, run.task, self.config.args, versions, named)
        return self._task[1]

    def _order(
        self, model: ServedModel, customer: Customer | None, task: InspectTask, work: Work, run: EvalRun
    ) -> dict[str, Any]:
        user: dict[str, Any] | None = None
        if isinstance(customer, Provided):
            user = {"name": customer.name, "url": None, "temperature": 0.0}
        elif customer is not None:
            user = address_model(USER_SERVICE, customer, 0.0)
        return {
            "title": work.benchmark.name,
            "task": task.spec,
            "args": dict(task.args),
            "scorer": self.config.scorer,
            "pending": work.task_trials(),
            "families": dict(work.benchmark.families),
            "model": address_model(AGENT_SERVICE, model, run.temperature),
            "user": user,
            "concurrency": run.concurrency,
            "max_tokens": run.max_tokens,
            "seed": run.seed,
            "limits": run.limits.model_dump(),
        }

    def _take(self, lines: LineFollower, work: Work, patience: Patience) -> None:
        for line in lines.new_lines():
            trial = _trial(line, work.folder, work.attempt, work.benchmark.families)
            patience.saw(work.recorder.add(trial))

    def _end(self, child: Child) -> None:
        """Let Inspect write its log; it is killed where that takes long."""
        child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def _trial(line: dict[str, Any], folder: Path, attempt: Path, families: Any) -> Trial:
    facts = {key: value for key, value in line.items() if key not in ("id", "trial")}
    error = facts.pop("error", None)
    score = None if error is not None else facts.pop("score", None)
    facts.pop("score", None)
    log = log_file(attempt)
    inside = f"samples/{line['id']}_epoch_{line['trial'] + 1}.json"
    return Trial(
        task=line["id"],
        trial=line["trial"],
        score=score,
        error=error,
        family=families.get(line["id"]),
        transcript=f"{log.relative_to(folder)}#{inside}" if log is not None else None,
        **{"ended": "error", **facts} if error is None else {**facts, "ended": "error"},
    )
