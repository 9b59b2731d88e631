"""What is known of each variant of a sweep: how it stands, its training, its evaluations, what it took."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agent_sft.errors import UserError
from agent_sft.evals.results import Evaluation, Trial, missing, read_results
from agent_sft.evals.statistics import Summary, summarise
from agent_sft.report.sweep.record import EvaluationRecord, JobRecord, State, SweepRecord, VariantRecord, read_record
from agent_sft.report.sweep.training import Training, read_training

TAIL_LINES = 15
"""Of the log of a job that failed."""


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation of a checkpoint of a variant, finished or not."""

    record: EvaluationRecord
    folder: Path
    state: State
    """Of its job."""
    summary: Summary | None
    """None where nothing has been scored."""
    evaluation: Evaluation | None
    trials: list[Trial]
    problem: str | None
    """Why it cannot be read."""

    @property
    def counts(self) -> bool:
        """Return whether variants may be compared by it: half of its tasks would not be like all of them."""
        if self.summary is None or self.evaluation is None or not self.summary.overall.scored:
            return False
        return self.state == "failed" or not missing(self.evaluation, self.trials)


class VariantFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A variant: one training with its seed, or a finished model."""

    record: VariantRecord
    state: State
    training: Training | None
    evaluations: list[Scored]
    seconds: float
    """Wall time of its jobs, one after the other."""
    gpu_hours: float
    cost: float | None


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A job that failed."""

    job: JobRecord
    tail: list[str]
    """The last lines of its log."""


class SweepFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A sweep and what lies in its folder."""

    folder: Path
    record: SweepRecord
    variants: list[VariantFacts]
    failures: list[Failure]


def read_sweep(folder: Path) -> SweepFacts:
    """Return what is known of the sweep in a folder.

    Raises:
        UserError: there is none, or its record is damaged.
    """
    record = read_record(folder)
    jobs = {job.id: job for job in record.jobs}
    return SweepFacts(
        folder=folder,
        record=record,
        variants=[_variant(folder, record, variant, jobs) for variant in record.variants],
        failures=[
            Failure(job=job, tail=_tail(folder / job.log) if job.log else [])
            for job in record.jobs
            if job.state == "failed"
        ],
    )


def _variant(folder: Path, record: SweepRecord, variant: VariantRecord, jobs: dict[str, JobRecord]) -> VariantFacts:
    names = [*([variant.train_job] if variant.train_job else []), *(one.job for one in variant.evaluations)]
    own = [jobs[name] for name in dict.fromkeys(names) if name in jobs]
    gpu_hours = sum(job.gpu_seconds for job in own) / 3600
    return VariantFacts(
        record=variant,
        state=_state([job.state for job in own]),
        training=read_training(folder / variant.run) if variant.run else None,
        evaluations=[_scored(folder / one.folder, one, jobs) for one in variant.evaluations],
        seconds=sum(job.seconds for job in own),
        gpu_hours=gpu_hours,
        cost=gpu_hours * record.gpu_price if record.gpu_price is not None and gpu_hours else None,
    )


def _state(states: list[State]) -> State:
    """Return how a variant stands by how its jobs do: what went wrong first, then what goes on."""
    for state in ("failed", "running", "skipped"):
        if state in states:
            return state
    return "done" if set(states) <= {"done"} else "running" if "done" in states else "waiting"


def _scored(folder: Path, record: EvaluationRecord, jobs: dict[str, JobRecord]) -> Scored:
    state: State = jobs[record.job].state if record.job in jobs else "done"
    summary, evaluation, problem = None, None, None
    trials: list[Trial] = []
    try:
        evaluation, trials = read_results(folder)
        if any(trial.score is not None for trial in trials):
            summary = summarise(folder)
    except UserError as error:
        if (folder / "evaluation.json").exists():
            problem = str(error)
    return Scored(
        record=record,
        folder=folder,
        state=state,
        summary=summary,
        evaluation=evaluation,
        trials=trials,
        problem=problem,
    )


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - 16384))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line[:300] for line in lines if line.strip()][-TAIL_LINES:]
