"""A program of the user's own, which is told where the model is and writes results in our schema."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

from agent_sft.engines.served import ServedModel
from agent_sft.errors import UserError, WorkFailed
from agent_sft.evals.results import RESULTS, read_trials
from agent_sft.files import digest_file, write_atomic
from agent_sft.runs.processes import Child
from agent_sft.stages.evaluators.contract import Benchmark, EvalRun, Evaluator, Work, chosen_tasks
from agent_sft.stages.evaluators.customer import Provided, check_customer, customer_of
from agent_sft.stages.evaluators.patience import Patience
from agent_sft.stages.evaluators.registry import register_evaluator

POLL_SECONDS = 0.2
PENDING = "pending.jsonl"


@register_evaluator("command")
class CommandEvaluator(Evaluator):
    """Runs your own program, which finds the model in its environment and writes results in our schema."""

    class Config(BaseModel, extra="forbid"):
        """Parameters of the evaluator."""

        script: Path
        """The program (`--script`): executable, or a `.py` file."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.config = self.Config(**params)

    def check(self, run: EvalRun) -> None:
        """Check the program and the file of tasks."""
        check_customer(run)
        self._command()
        self.benchmark(run)

    def benchmark(self, run: EvalRun) -> Benchmark:
        """Return the tasks that the file names."""
        path = Path(run.task)
        if not path.is_file():
            raise UserError(
                "no such file", where=f"--task {path}", fix="name a file of JSON lines, each with a task_id"
            )
        names = _names(path)
        return Benchmark(
            name=path.stem,
            tasks=chosen_tasks(list(names), run, str(path)),
            families={name: family for name, family in names.items() if family},
            settings={"tasks": digest_file(path), "script": digest_file(self.config.script)},
        )

    def score(self, model: ServedModel, work: Work, run: EvalRun) -> None:
        """Run the program and take over each result that it writes, checked."""
        place = work.attempt / "written"
        place.mkdir()
        pending = b"".join(orjson.dumps({"task": task, "trial": trial}) + b"\n" for task, trial in work.pending)
        write_atomic(work.attempt / PENDING, pending)
        customer = customer_of(run, model)
        log = work.attempt / "command.log"
        variables = {
            **run.environment,
            "AGENT_SFT_URL": model.url,
            "AGENT_SFT_MODEL": model.name,
            "AGENT_SFT_KEY": model.api_key,
            "AGENT_SFT_TASKS": str(Path(run.task).absolute()),
            "AGENT_SFT_PENDING": str((work.attempt / PENDING).absolute()),
            "AGENT_SFT_OUT": str(place.absolute()),
            "AGENT_SFT_TEMPERATURE": str(run.temperature),
            "AGENT_SFT_SEED": str(run.seed),
            "AGENT_SFT_CONCURRENCY": str(run.concurrency),
        }
        if isinstance(customer, Provided):
            variables["AGENT_SFT_USER_MODEL"] = customer.name
        elif customer is not None:
            variables |= {
                "AGENT_SFT_USER_MODEL": customer.name,
                "AGENT_SFT_USER_URL": customer.url,
                "AGENT_SFT_USER_KEY": customer.api_key,
            }
        child = Child(self._command(), log=log, env=variables, hold=[work.lock])
        patience = Patience(run)
        try:
            while (status := child.poll()) is None:
                self._take(place, work, patience)
                run.stop.leave()
                patience.check(log)
                time.sleep(POLL_SECONDS)
            self._take(place, work, patience)
        finally:
            child.kill()
        if status != 0 or len(work.recorder.trials) < len(work.pending):
            lost = len(work.pending) - len(work.recorder.trials)
            raise WorkFailed(f"the program ended (exit code {status}) with {lost} trials without a result", log=log)

    def _command(self) -> list[str]:
        script = self.config.script
        if not script.is_file():
            raise UserError("no such file", where=f"--script {script}")
        if os.access(script, os.X_OK):
            return [str(script.absolute())]
        if script.suffix == ".py":
            return [sys.executable, str(script.absolute())]
        raise UserError("cannot be run", where=f"--script {script}", fix=f"chmod +x {script}")

    def _take(self, place: Path, work: Work, patience: Patience) -> None:
        wanted = set(work.pending)
        for where, trial in read_trials(place).items():
            if where not in wanted:
                raise UserError(
                    f"has a result of the task '{where[0]}', trial {where[1]}, which was not asked for",
                    where=str(place / RESULTS),
                    fix="write results of what stands in $AGENT_SFT_PENDING alone",
                )
            if where not in work.recorder.trials:
                patience.saw(work.recorder.add(trial))


def _names(path: Path) -> dict[str, str | None]:
    """Return the names of the tasks of a file, each with its family."""
    found: dict[str, str | None] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise UserError(f"not JSON: {error}", where=where) from error
        name = row.get("task_id") if isinstance(row, dict) else None
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise UserError("has no 'task_id'", where=where)
        if str(name) in found:
            raise UserError(f"a task before it is called '{name}' too", where=where)
        family = row.get("family")
        found[str(name)] = str(family) if family is not None else None
    return found
