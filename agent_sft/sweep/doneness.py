"""What of a sweep is done: asked of run directories and evaluation folders, never read from a journal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent_sft.config.evaluation import EvaluationConfig
from agent_sft.config.sft import SFTConfig
from agent_sft.errors import UserError
from agent_sft.evals.results import EVALUATION, failed, missing, read_results
from agent_sft.report.numbers import counted
from agent_sft.runs.devices import Gpu
from agent_sft.stages.evaluating import kept_options, pending, set_aside
from agent_sft.stages.plan import TrainingPlan
from agent_sft.stages.plan import build_plan as build_training
from agent_sft.stages.sft import is_finished, why_runs
from agent_sft.sweep.graph import Job, SweepPlan
from agent_sft.sweep.jobs import BASE_JOB, base_training, covers
from agent_sft.sweep.preparing import why_prepare
from agent_sft.sweep.resources import resources_of

OTHER = "holds another evaluation: "
"""How `stages.evaluating` begins to say that a folder's results are of something else."""


class Doneness:
    """Tells what a plan's jobs still have to do."""

    def __init__(self, plan: SweepPlan) -> None:
        """Look at the machine once, for all of the plan's trainings."""
        self._plan = plan
        resources = resources_of(plan.config.resources, plan.config.name)
        self._gpus = resources.gpus
        self._base = base_training(plan.config, plan.out, resources.launch)

    def why_run(self, job: Job) -> str | None:
        """Tell why a job runs, in words; None when it is done. What has to be done before it is not looked at."""
        if job.kind == "prepare":
            number = job_number(job)
            return why_prepare(self._plan.out, number, self._plan.config.prepare[number])
        if job.kind == "train":
            return why_train(self.training(job), self._gpus)
        assert job.evaluation is not None
        return why_evaluate(job.evaluation)

    def training(self, job: Job) -> SFTConfig:
        """Return the options of a job that trains."""
        sft = self._base if job.id == BASE_JOB else self._variant(job.variant)
        assert sft is not None
        return sft

    def reasons(self) -> dict[str, str | None]:
        """Return for each job, by its id, why it will run; None for those that will not.

        A job runs when one before it does, as far as can be told now: made again, its data may turn out the same.
        """
        found: dict[str, str | None] = {}
        for job in self._plan.jobs:
            before = [name for name in self._needed(job) if found[name] is not None]
            found[job.id] = f"after {', '.join(before)}" if before else self.why_run(job)
        return found

    def _needed(self, job: Job) -> Sequence[str]:
        """Return the jobs whose outcome a job depends on: a command does not on those that are run before it."""
        if job.kind != "prepare":
            return job.after
        number, commands = job_number(job), self._plan.config.prepare
        return [
            f"prepare/{before}"
            for before in range(number)
            if any(covers(made, read) for made in commands[before].makes for read in commands[number].reads)
        ]

    def _variant(self, name: str | None) -> SFTConfig | None:
        return self._plan.variant(name).sft if name is not None else None


def job_number(job: Job) -> int:
    """Return which of the commands a job runs."""
    return int(job.id.rpartition("/")[2])


def why_run(plan: SweepPlan, job: Job) -> str | None:
    """Tell why a job runs, in words; None when it is done. What has to be done before it is not looked at."""
    return Doneness(plan).why_run(job)


def reasons(plan: SweepPlan) -> dict[str, str | None]:
    """Return for each job, by its id, why it will run, also because others do; None where it is done."""
    return Doneness(plan).reasons()


def training_plan(sft: SFTConfig, gpus: tuple[Gpu, ...], *, data_comes_later: bool = False) -> TrainingPlan:
    """Resolve a training as its job will on so many of the GPUs, making no environment.

    Args:
        sft: its options.
        gpus: those of the sweep.
        data_comes_later: whether its data is made first: it is not looked at then.

    Raises:
        UserError: a setting or the data is wrong, or not there.
    """
    chosen = gpus[: sft.nproc_per_node] if sft.nproc_per_node else gpus
    return build_training(sft.model_copy(update={"dry_run": True}), gpus=chosen, data_comes_later=data_comes_later)


def why_train(sft: SFTConfig, gpus: tuple[Gpu, ...]) -> str | None:
    """Tell why a training runs; None when it is finished and its model whole."""
    assert sft.output_dir is not None
    begun = (sft.output_dir / "stages").is_dir()
    try:
        plan = training_plan(sft, gpus)
        if is_finished(plan):
            return None
        return next(why_runs(plan), "not done yet") if begun else "not done yet"
    except UserError as error:
        return str(error).partition("\n")[0]


def why_evaluate(config: EvaluationConfig) -> str | None:
    """Tell why an evaluation runs; None when every trial has a score.

    Where the model is gone, as a pruned checkpoint is, or nothing but a server tells whose weights it has, the options
    that the evaluation was made with decide.
    """
    if not (config.out / EVALUATION).is_file():
        return "not done yet"
    try:
        left = pending(config) if Path(config.model).is_dir() else None
        if left is None:
            return _by_options(config)
    except UserError as error:
        return error.what.removeprefix(OTHER)
    return f"{counted(len(left), 'trial')} without a score" if left else None


def make_room(config: EvaluationConfig) -> str | None:
    """Set aside what an evaluation's folder holds where it is another evaluation; tell what differs.

    To be asked before an evaluation starts, when its model is there.
    """
    if not (config.out / EVALUATION).is_file():
        return None
    try:
        if Path(config.model).is_dir():
            pending(config)
            return None
        differs = _differing(config)
    except UserError as error:
        if not error.what.startswith(OTHER):
            raise
        differs = error.what.removeprefix(OTHER)
    if differs is not None:
        set_aside(config.out)
    return differs


def _by_options(config: EvaluationConfig) -> str | None:
    if (differs := _differing(config)) is not None:
        return differs
    evaluation, trials = read_results(config.out)
    left = len(failed(trials)) + len(missing(evaluation, trials))
    return f"{counted(left, 'trial')} without a score" if left else None


def _differing(config: EvaluationConfig) -> str | None:
    """Name the options that an evaluation was not made with."""
    known, asked = kept_options(config.out).model_dump(mode="json"), config.model_dump(mode="json")
    passing = ("out", "concurrency", "serve")
    names = [name for name in asked if name not in passing and known.get(name) != asked[name]]
    return f"other options: {', '.join(names)}" if names else None
