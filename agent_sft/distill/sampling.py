"""Has the teacher answer: trials of an evaluation, through the gateway; in rounds where the first good one will do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from agent_sft.config.distill import DistillConfig
from agent_sft.config.evaluation import LimitsConfig
from agent_sft.distill.asking import Gateway
from agent_sft.distill.gateway import CEILING, NOT_ANSWERED, NOT_KEPT
from agent_sft.distill.prompts import Prompts
from agent_sft.errors import WorkFailed
from agent_sft.evals.results import Place, Trial, read_trials
from agent_sft.evals.tasks import TASKS
from agent_sft.files import digest_value, write_atomic
from agent_sft.runs.processes import StopSignal
from agent_sft.stages.evaluators.contract import EvalRun, Evaluator
from agent_sft.stages.evaluators.registry import make_evaluator
from agent_sft.stages.reporting import EvaluationReporter

ASKED = (
    *("teacher", "samples", "temperature", "max_tokens", "seed", "request", "user_model", "max_messages"),
    *("token_limit", "time_limit", "request_timeout", "max_retries"),
)
"""The options that samples depend on, beside the prompts."""
CUT_OFF = ("token_limit", "max_messages", "time_limit", "too_many_errors")
"""How a conversation ends that is not to be learnt from, whatever its score."""
OURS = re.compile(rf"^(HTTP ({NOT_ANSWERED}|{CEILING}|{NOT_KEPT}): |Error code: \d+ - )")
"""With what the gateway wraps the reason why there is no answer."""
TOLERANCE = 1e-6
PAUSES = 4
"""How many times as long as its attempts a request may take for pauses between them."""


@dataclass(frozen=True)
class Sampler:
    """Samples one set of prompts from one teacher, in a folder of its own."""

    config: DistillConfig
    evaluator: Evaluator
    run: EvalRun
    tasks: tuple[str, ...]
    """The names of the prompts."""
    folder: Path
    content: bytes | None
    """The file of tasks; None for an Inspect task."""

    def accepted(self, trial: Trial) -> bool:
        """Tell whether a sample is good enough."""
        return self.why_not(trial) is None

    def why_not(self, trial: Trial) -> str | None:
        """Return why a sample is not good enough; None where it is."""
        if trial.score is None:
            return f"no answer: {OURS.sub('', trial.error or '')}"
        if trial.ended in CUT_OFF:
            return str(trial.detail.get("reason") or f"cut off ({trial.ended})")
        if trial.tool_errors and self.config.task is None:
            return "calls a tool that it was not given, or in a way that cannot be read"
        if trial.score < self.config.min_reward - TOLERANCE:
            said = trial.detail.get("reason") or trial.detail.get("explanation")
            return f"score {trial.score:g}" + (f": {said}" if said else "")
        return None

    def trials(self) -> dict[str, list[Trial]]:
        """Return the samples there are, by prompt, in order."""
        found: dict[str, list[Trial]] = {}
        for (task, _), trial in sorted(read_trials(self.folder).items(), key=lambda both: both[0][1]):
            found.setdefault(task, []).append(trial)
        return found

    def wanted(self, number: int) -> list[Place]:
        """Return which samples are asked for in a round."""
        if self.config.keep != "first":
            return [(task, trial) for task in self.tasks for trial in range(self.config.samples)]
        there = self.trials()
        return [(task, number) for task in self.tasks if not any(map(self.accepted, there.get(task, ())))]

    def pending(self) -> bool:
        """Tell whether the teacher has to be asked anything: not so where all samples are there."""
        there = {place for place, trial in read_trials(self.folder).items() if trial.score is not None}
        return any(place not in there for number in range(self._rounds) for place in self.wanted(number))

    def sample(self, gateway: Gateway) -> None:
        """Ask for all samples that are wanted and not there.

        Raises:
            UserError: the teacher's server refuses the key.
            WorkFailed: going on makes no sense.
            Interrupted: the user stopped it.
        """
        if self.content is not None:
            write_atomic(self.folder / TASKS, self.content)
        for number in range(self._rounds):
            wanted = self.wanted(number)
            if not wanted:
                return
            run = replace(self.run, only=frozenset(wanted))
            try:
                self.evaluator.run(gateway.model, self.folder, run)
            except WorkFailed:
                if gateway.status().ended_by is None:
                    raise
            if gateway.status().ended_by is not None:
                return

    @property
    def _rounds(self) -> int:
        return self.config.samples if self.config.keep == "first" else 1


def make_sampler(
    config: DistillConfig,
    folder: Path,
    prompts: Prompts | None,
    *,
    environment: Mapping[str, str],
    reporter: EvaluationReporter,
    stop: StopSignal,
) -> Sampler:
    """Return what samples.

    Args:
        config: of the distillation.
        folder: of the distillation.
        prompts: what is asked; None for an Inspect task.
        environment: our variables and those of `.env`.
        reporter: is told how it goes.
        stop: signals that end it.

    Raises:
        UserError: the Inspect task, its arguments or its customer are wrong.
    """
    content = prompts.content() if prompts is not None else None
    kind, params = ("tasks", {}) if content is not None else ("inspect", _inspect_params(config))
    # Another set of prompts, or other options, are samples of their own; the answers to the same requests are shared.
    facts = [sha256(content or b"").hexdigest(), config.task, config.limit, params]
    name = digest_value([*facts, *(getattr(config, name) for name in ASKED)]).removeprefix("sha256:")[:12]
    own = folder / "samples" / name
    run = EvalRun(
        task=str(own / TASKS) if config.task is None else config.task,
        reporter=reporter,
        stop=stop,
        environment=environment,
        trials=config.samples,
        limit=config.limit if config.task is not None else None,
        user_model=config.user_model,
        concurrency=config.concurrency,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        seed=config.seed,
        limits=_limits(config),
        floor=False,
    )
    evaluator = make_evaluator(kind, params, where="--task")
    if prompts is not None:
        return Sampler(config, evaluator, run, tuple(prompts.by_id), own, content)
    evaluator.check(run)
    return Sampler(config, evaluator, run, evaluator.benchmark(run).tasks, own, None)


def _inspect_params(config: DistillConfig) -> dict[str, Any]:
    params = {"args": config.task_args, "scorer": config.scorer}
    return {name: value for name, value in params.items() if value}


def _limits(config: DistillConfig) -> LimitsConfig:
    """Return the limits of those who ask the gateway, which tries requests again by itself."""
    patience = (config.max_retries + 1) * config.request_timeout
    return LimitsConfig(
        max_messages=config.max_messages,
        token_limit=config.token_limit,
        time_limit=config.time_limit,
        request_timeout=min(config.time_limit, PAUSES * patience),
        max_retries=0,
    )


def best_of(trials: Sequence[Trial]) -> Trial:
    """Return the sample with the highest score; of several the shortest, which is the first of equals."""
    return min(trials, key=lambda trial: (-(trial.score or 0.0), trial.output_tokens, trial.trial))


def described(trial: Trial, why: str | None, folder: Path) -> dict[str, Any]:
    """Return what is said of a sample that was not kept.

    Args:
        trial: the sample.
        why: it was not kept.
        folder: of the samples, in that of the distillation, where paths begin.
    """
    place = f"samples/{folder.name}/{trial.transcript}" if trial.transcript is not None else None
    line = {"sample": trial.trial, "score": trial.score, "why": why, "transcript": place}
    return {key: value for key, value in line.items() if value is not None}
