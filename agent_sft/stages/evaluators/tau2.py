"""Sierra's tau2 by its own command line, as the user installed it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agent_sft.engines.served import ServedModel
from agent_sft.engines.tau2.installation import Installation, assumed_installation, find_installation, read_domain
from agent_sft.engines.tau2.launch import AGENT_PREFIX, RETRIEVAL, Speaker, environment, make_data_folder, run_command
from agent_sft.engines.tau2.simulations import facts, keep_copy, mend, read_simulations, results_file
from agent_sft.errors import UserError, WorkFailed
from agent_sft.evals.results import Place, Trial, read_trials
from agent_sft.runs.processes import Child
from agent_sft.stages.evaluators.contract import Benchmark, EvalRun, Evaluator, Work, chosen_tasks
from agent_sft.stages.evaluators.customer import SCRIPTED, Provided, check_customer, customer_of, is_address
from agent_sft.stages.evaluators.patience import Patience
from agent_sft.stages.evaluators.registry import register_evaluator

POLL_SECONDS = 0.5
PLACE = "tau2"
"""Folder, inside that of the evaluation, in which tau2 finds its data and leaves its results."""


@register_evaluator("tau2")
class Tau2Evaluator(Evaluator):
    """Runs a domain of Sierra's tau2 (0.2 or 1.x) by its own command line."""

    class Config(BaseModel, extra="forbid"):
        """Parameters of the evaluator."""

        tau2_dir: Path
        """The clone of tau2's repository that it is installed from (`--tau2-dir`)."""
        split: str | None = None
        """One of the domain's splits; `base` where it has that, else all of its tasks."""
        retrieval: str | None = None
        """How the agent reads the documents of `banking_knowledge`; tau2's default when not given."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.config = self.Config(**params)

    def check(self, run: EvalRun) -> None:
        """Check the installation, the domain and who plays the customer."""
        if run.user_model is None or run.user_model == SCRIPTED:
            raise UserError(
                "a model plays tau2's customer", where="--user-model", fix="give openai/gpt-4.1, an address, or local"
            )
        check_customer(run)
        self.benchmark(run)

    def benchmark(self, run: EvalRun) -> Benchmark:
        """Return the tasks that are asked for."""
        tau2 = find_installation(self.config.tau2_dir, run.environment)
        domain = read_domain(tau2, run.task, self.config.split)
        if self.config.retrieval is not None and RETRIEVAL not in tau2.options:
            raise UserError(f"tau2 {tau2.version} has no {RETRIEVAL}", where="--param retrieval", fix="leave it out")
        return Benchmark(
            name=f"tau2/{run.task}",
            tasks=chosen_tasks(domain.tasks, run, f"tau2's {run.task}"),
            versions={"tau2": tau2.version},
            settings={"split": self.config.split, "retrieval": self.config.retrieval, "tasks.json": domain.digest},
        )

    def limits(self, run: EvalRun) -> dict[str, Any]:
        """Return what bounds a trial: tau2 has no limit of its tokens, and 0.2 none of time."""
        kept = run.limits.model_dump(exclude={"token_limit"})
        if "--timeout" not in find_installation(self.config.tau2_dir, run.environment).options:
            del kept["time_limit"]
        return kept

    def score(self, model: ServedModel, work: Work, run: EvalRun) -> None:
        """Run tau2 on the folder of its results, which it goes on with, and take over what it saves."""
        tau2 = find_installation(self.config.tau2_dir, run.environment)
        customer = customer_of(run, model)
        assert customer is not None
        data = make_data_folder(tau2, work.folder / PLACE)
        scored = {place for place, trial in read_trials(work.folder).items() if trial.score is not None}
        mend(data, lambda task, trial: (task, trial) in scored)
        elsewhere = isinstance(customer, ServedModel) and customer.url != model.url
        if isinstance(customer, Provided):
            llm = customer.name
        else:
            llm = f"openai/{customer.name}" if elsewhere else f"{AGENT_PREFIX}/{customer.name}"
        command = self._command(tau2, work.benchmark.tasks, model.name, llm, run)
        there = customer if isinstance(customer, ServedModel) and elsewhere else None
        variables = environment(
            run.environment,
            data,
            url=model.url,
            key=model.api_key,
            user_url=there.url if there else None,
            user_key=there.api_key if there else None,
        )
        self._watch(Child(command, log=work.attempt / "tau2.log", env=variables, hold=[work.lock]), data, work, run)

    def shown(self, model: str, folder: Path, run: EvalRun) -> list[list[str]]:
        """Return the command line of tau2: of 1.x and with a word for the tasks where it is not installed yet."""
        user = run.user_model or ""
        named = user if "/" in user and not is_address(user) else f"{AGENT_PREFIX}/{user.rpartition('#')[2] or 'USER'}"
        try:
            tau2 = find_installation(self.config.tau2_dir, run.environment)
            tasks = read_domain(tau2, run.task, self.config.split).tasks
        except UserError:
            tau2, tasks = assumed_installation(self.config.tau2_dir), ("TASK...",)
        return [self._command(tau2, tasks if run.limit is None else tasks[: run.limit], model, named, run)]

    def _command(self, tau2: Installation, tasks: Sequence[str], model: str, user: str, run: EvalRun) -> list[str]:
        asking = {"timeout": run.limits.request_timeout, "num_retries": run.limits.max_retries}
        own = {"temperature": run.temperature, "max_tokens": run.max_tokens, **asking}
        return run_command(
            tau2,
            domain=run.task,
            split=self.config.split,
            retrieval=self.config.retrieval,
            tasks=tasks,
            trials=run.trials,
            agent=Speaker(f"{AGENT_PREFIX}/{model}", own),
            user=Speaker(user, {"temperature": 0.0, **asking}),
            max_steps=run.limits.max_messages,
            concurrency=run.concurrency,
            seed=run.seed,
            timeout=run.limits.time_limit,
            retries=run.limits.max_retries,
        )

    def recover(self, folder: Path, places: frozenset[Place]) -> list[Trial]:
        """Return the trials that tau2 saved and that are not yet in the results."""
        data = folder / PLACE / "data"
        saved = read_simulations(data) or []
        trials = (_trial(entry, folder, data) for entry in saved)
        return [trial for trial in trials if trial.place in places and trial.score is not None]

    def _watch(self, child: Child, data: Path, work: Work, run: EvalRun) -> None:
        log = work.attempt / "tau2.log"
        patience = Patience(run)
        try:
            while (status := child.poll()) is None:
                self._take(data, work, patience)
                if run.stop.count:
                    child.kill()
                    self._take(data, work, patience)
                    run.stop.leave()
                patience.check(log)
                time.sleep(POLL_SECONDS)
            self._take(data, work, patience)
        finally:
            child.kill()
        if len(work.recorder.trials) < len(work.pending):
            patience.check(log)
            raise WorkFailed(f"tau2 ended before all trials had (exit code {status})", log=log)

    def _take(self, data: Path, work: Work, patience: Patience) -> None:
        saved = read_simulations(data)
        if saved is None:
            return
        wanted = set(work.pending)
        new = [entry for entry in saved if (str(entry["task_id"]), int(entry["trial"])) in wanted]
        new = [entry for entry in new if (str(entry["task_id"]), int(entry["trial"])) not in work.recorder.trials]
        for entry in new:
            trial = _trial(entry, work.folder, data)
            patience.saw(work.recorder.add(trial))
        if new:
            keep_copy(data)


def _trial(entry: dict[str, Any], folder: Path, data: Path) -> Trial:
    place = results_file(data).relative_to(folder)
    found = facts(entry)
    return Trial(
        task=str(entry["task_id"]),
        trial=int(entry["trial"]),
        transcript=f"{place}#{entry.get('id', '')}",
        **found,
    )
