"""What a plan takes: by formula first, by what twenty steps took once they were measured.

A token of training takes 6 operations for each parameter, about 4 where an adapter is trained, and as many for each
of layers · width · length of the attention (Kaplan et al. 2020, section 2.1); a token of evaluation takes 2. GPUs do a
part of what their makers promise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from agent_sft.config.evaluation import EvaluationConfig
from agent_sft.engines.llamafactory.results import read_result
from agent_sft.engines.llamafactory.shape import ModelShape, model_shape
from agent_sft.errors import UserError
from agent_sft.evals.results import read_trials
from agent_sft.evals.tasks import TASKS
from agent_sft.planning.grid import steps_of
from agent_sft.planning.halving import Rung
from agent_sft.planning.inspection import CHOOSING, JUDGING, TRAINING
from agent_sft.planning.sweeps import BASE, Machine
from agent_sft.report.plan.record import Candidate, Cost, Inspection, ModelFacts
from agent_sft.report.sweep.record import JobRecord, SweepRecord, read_record
from agent_sft.sweep.graph import Job, SweepPlan
from agent_sft.sweep.remaining import played

PEAK = {"B200": 2.25e15, "H200": 9.9e14, "H100": 9.9e14, "A100": 3.1e14, "L40": 3.6e14, "L4": 1.2e14, "A10": 1.25e14,
        "4090": 1.65e14, "3090": 7.1e13, "V100": 1.25e14, "T4": 6.5e13}  # fmt: skip
"""Operations a second in half precision, as the maker says, by a part of the GPU's name; the first that fits."""
UNKNOWN_PEAK = 1.0e14
USED = 0.3
"""The share of it that trainings reach: 25 to 40 % without special kernels."""
CORE_RATE = 1.5e10
"""Operations a second of one processor, in float32."""
STEP_OVERHEAD = 0.03
"""Seconds of an optimizer step beside its arithmetic."""
TRAIN_START, LOSS_START, SERVER_START, TRIAL_SECONDS = 28.0, 25.0, 60.0, 4.0
"""Seconds to begin: a training, an evaluation of the loss, a server; and of a conversation with a server."""
SWITCH = 2.0
"""Seconds until a server that is there serves another model."""
LOAD_RATE = 1.0e9
"""Bytes a second at which weights are read."""
UNKNOWN_PARAMETERS = 7.0e9
"""Of a model whose size nothing here tells."""
UNKNOWN_TASKS = 50
"""Of a benchmark of which nothing is known before it is asked."""


@dataclass(frozen=True)
class Measured:
    """What the probe found of a model."""

    start: float
    """Seconds of a training beside its steps."""
    step: float
    """Seconds of a step."""
    loss: float
    """Seconds of an evaluation of the loss on the conversations that choose."""
    trial: float | None = None
    """Mean seconds of a trial on a server, among as many others as it has later; None where none was tried."""
    untrained: float | None = None
    """The same of the model before its training."""
    server: float = 0.0
    """Seconds for which the first evaluation on a server had to wait for it."""


@dataclass
class CostModel:
    """Tells how long each job of a plan takes."""

    machine: Machine
    inspection: Inspection
    models: Sequence[ModelFacts]
    lora: bool
    measured: dict[str, Measured] = field(default_factory=dict)
    """By the model's name."""

    def __post_init__(self) -> None:
        self._shapes = {facts.name: model_shape(facts.model) for facts in self.models}

    def training(self, one: Candidate, steps: int, devices: int) -> float:
        """Return the seconds of a training.

        Args:
            one: its settings.
            steps: optimizer steps.
            devices: GPUs, or processors.
        """
        known = self.measured.get(one.model)
        if known is not None:
            # Steps of the probe were made on a candidate's share; with more GPUs they are as many times shorter.
            return known.start + steps * known.step * self.machine.train / devices
        facts = self._facts(one.model)
        tokens = one.batch * facts.tokens / max(1, facts.examples)
        work = tokens * self._operations(facts, 4 if self.lora else 6)
        return TRAIN_START + self._load(facts) + steps * (STEP_OVERHEAD + work / self._rate(devices))

    def loss(self, model: str, part: str) -> float:
        """Return the seconds of an evaluation of the loss on a part of the data."""
        facts = self._facts(model)
        per_row = facts.tokens / max(1, facts.examples) * self._operations(facts, 2) / self._rate(1) + STEP_OVERHEAD
        rows = self.inspection.part(part).rows
        if (known := self.measured.get(model)) is not None:
            return max(1.0, known.loss + (rows - self.inspection.part(CHOOSING).rows) * per_row)
        return LOSS_START + self._load(facts) + rows * per_row

    def served(self, model: str, asked: EvaluationConfig, *, first: bool, trained: bool = True) -> float:
        """Return the seconds of an evaluation on a server, which the first one has to wait for."""
        trials = trials_of(asked)
        known = self.measured.get(model)
        trial = None if known is None else known.trial if trained else known.untrained
        if known is not None and trial is not None:
            # A last round that is not full takes as long as the others: answers are of about the same length.
            return (known.server if first else SWITCH) + math.ceil(trials / asked.concurrency) * trial
        start = SERVER_START + self._load(self._facts(model)) if first else SWITCH
        return start + trials * TRIAL_SECONDS / (16 if self.machine.on_gpus else 4)

    def deployment(self, model: str) -> float:
        """Return the seconds until the final model answers."""
        if (known := self.measured.get(model)) is not None and known.trial is not None:
            return known.server
        return SERVER_START + self._load(self._facts(model))

    def sweep(self, plan: SweepPlan, candidates: Sequence[Candidate], phase: str, *, final_epochs: float = 0) -> Cost:
        """Return what a sweep of the plan takes.

        Args:
            plan: the sweep.
            candidates: what its variants are, by name; one alone for the final run.
            phase: what it is called.
            final_epochs: of the final run.
        """
        seconds = self.jobs(plan, candidates, final_epochs=final_epochs)
        wall = played(list(plan.jobs), seconds, self.machine.capacity, plan.config.resources.jobs)
        hours = sum(seconds[job.id] * self._share(job) for job in plan.jobs) / 3600
        trained = sum(job.kind == "train" for job in plan.jobs)
        scored = len(plan.jobs) - trained
        return Cost(
            phase=phase,
            seconds=wall,
            device_hours=hours,
            detail=f"{trained or 'nothing'} trained, {scored} evaluations",
        )

    def jobs(self, plan: SweepPlan, candidates: Sequence[Candidate], *, final_epochs: float = 0) -> dict[str, float]:
        """Return the seconds of each job of a sweep, by its id; the arguments are those of `sweep`."""
        seconds: dict[str, float] = {}
        servers: set[str] = set()
        pauses = {one.name: one.sft.pause_at for one in plan.variants if one.sft is not None}
        for job in plan.jobs:
            one = next((known for known in candidates if known.name == job.variant), candidates[0])
            devices = max(1, job.slots.gpus or job.slots.cores)
            if job.kind == "train":
                rows = self.inspection.part(TRAINING).rows
                steps = steps_of(rows, one.batch, final_epochs) if final_epochs else one.steps
                seconds[job.id] = self.training(one, min(steps, pauses.get(str(job.variant)) or steps), devices)
            elif job.kind == "evaluate":
                seconds[job.id] = self.loss(one.model, JUDGING if final_epochs else CHOOSING)
            else:
                assert job.evaluation is not None
                first, trained = str(job.server) not in servers, job.variant != BASE
                seconds[job.id] = self.served(one.model, job.evaluation, first=first, trained=trained)
                servers.add(str(job.server))
        return seconds

    def halved(self, whole: Cost, candidates: Sequence[Candidate], rungs: Sequence[Rung]) -> Cost:
        """Return what a search takes that stops those which fall behind, by what it takes to train all to their end.

        Every rung begins its trainings, and its evaluations, anew.
        """
        one = candidates[0]
        devices = self.machine.train
        seconds, done = 0.0, 0.0
        for rung in rungs:
            steps = round(((rung.share or 1.0) - done) * one.steps)
            seconds += rung.candidates * (self.training(one, steps, devices) + self.loss(one.model, CHOOSING))
            done = rung.share or 1.0
        full = len(candidates) * (self.training(one, one.steps, devices) + self.loss(one.model, CHOOSING))
        share = seconds / full
        trained = " + ".join(str(rung.candidates) for rung in rungs)
        return Cost(
            phase=whole.phase,
            seconds=whole.seconds * share,
            device_hours=whole.device_hours * share,
            detail=f"{trained} trained; to their end all would take {1 / share:.1f} times as long",
        )

    def _share(self, job: Job) -> float:
        return job.slots.gpus if self.machine.on_gpus else job.slots.cores / self.machine.cores

    def _facts(self, name: str) -> ModelFacts:
        return next(facts for facts in self.models if facts.name == name)

    def _operations(self, facts: ModelFacts, by: int) -> float:
        shape: ModelShape | None = self._shapes[facts.name]
        if shape is None:
            return by * UNKNOWN_PARAMETERS
        return by * (shape.parameters + shape.layers * shape.hidden * facts.median)

    def _rate(self, devices: int) -> float:
        """Return operations a second."""
        if not self.machine.on_gpus:
            return CORE_RATE * devices
        name = self.machine.known[0].name if self.machine.known else ""
        return USED * devices * next((peak for part, peak in PEAK.items() if part in name), UNKNOWN_PEAK)

    def _load(self, facts: ModelFacts) -> float:
        return 2 * (facts.parameters or UNKNOWN_PARAMETERS) / LOAD_RATE


def measured_by(folder: Path, models: Sequence[ModelFacts]) -> dict[str, Measured]:
    """Return what the probe in a folder found, by the models' names; nothing of those that failed.

    Args:
        folder: of the probe's sweep.
        models: in the order of its variants.
    """
    record = _record(folder)
    if record is None:
        return {}
    jobs = {job.id: job for job in record.jobs if job.state == "done"}
    found = {}
    for number, facts in enumerate(models, start=1):
        train, loss = jobs.get(f"train/m{number}"), jobs.get(f"evaluate/m{number}/final/loss")
        result = read_result(folder / "variants" / f"m{number}")
        if train is not None and loss is not None and result.seconds and result.steps:
            start = max(0.0, train.seconds - result.seconds)
            trial, server = _served(folder, f"m{number}", record, jobs) or (None, 0.0)
            untrained, _ = _served(folder, f"m{number}-{BASE}", record, jobs) or (None, 0.0)
            step = result.seconds / result.steps
            found[facts.name] = Measured(start, step, loss.seconds, trial, untrained, server)
    return found


def _served(
    folder: Path, variant: str, record: SweepRecord, jobs: Mapping[str, JobRecord]
) -> tuple[float, float] | None:
    """Return the mean seconds of a variant's trials on a server, and for how long they had to wait for it."""
    for one in next((found.evaluations for found in record.variants if found.name == variant), ()):
        job = jobs.get(one.job)
        if job is None or job.kind != "score":
            continue
        trials = read_trials(folder / one.folder).values()
        seconds = [trial.seconds for trial in trials if trial.score is not None]
        if seconds:
            return fmean(seconds), max(0.0, job.seconds - max(seconds))
    return None


def spent_hours(folders: Sequence[Path], machine: Machine) -> float:
    """Return the device-hours that sweeps have taken so far: of GPUs, or of this machine where there is none."""
    return sum(hours_of(record, machine) for folder in folders if (record := _record(folder)) is not None)


def hours_of(record: SweepRecord, machine: Machine, jobs: Sequence[str] | None = None) -> float:
    """Return the device-hours of a sweep's jobs; of some of them where they are named."""
    total = 0.0
    for job in record.jobs:
        if jobs is not None and job.id not in jobs:
            continue
        cores = sum(int(one.removeprefix("cores ")) for one in job.devices if one.startswith("cores "))
        total += job.gpu_seconds if machine.on_gpus else job.seconds * min(cores, machine.cores) / machine.cores
    return total / 3600


def trials_of(asked: EvaluationConfig) -> int:
    """Return the trials of an evaluation, as far as they are known before it is made."""
    tasks = Path(asked.task) / TASKS if Path(asked.task).is_dir() else Path(asked.task)
    known = UNKNOWN_TASKS
    if tasks.suffix == ".jsonl" and tasks.is_file():
        known = len(tasks.read_bytes().splitlines())
    return asked.trials * min(known, asked.limit or known, len(asked.task_ids) or known)


def _record(folder: Path) -> SweepRecord | None:
    try:
        return read_record(folder)
    except UserError:
        return None
