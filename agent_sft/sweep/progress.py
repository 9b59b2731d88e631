"""How far each variant of a sweep is, read from the folders that its jobs write to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from agent_sft.errors import UserError
from agent_sft.evals.results import read_results
from agent_sft.report.sweep.record import JobRecord, SweepRecord, VariantRecord

STAGES = {"prepare": "preparing", "train": "training", "score": "evaluating", "evaluate": "evaluating"}


@dataclass(frozen=True)
class Line:
    """One variant, or something that all of them need."""

    name: str
    stage: str
    """`waiting`, `training`, `trained`, `evaluating`, `done`, `failed`, `skipped`, …"""
    done: int | None = None
    """Steps or trials of the stage."""
    total: int | None = None
    loss: float | None = None
    """The last training loss."""
    score: float | None = None
    """The mean score of the trials so far, of the evaluator that runs or ran last."""
    devices: tuple[str, ...] = ()
    reason: str | None = None
    """Why it failed, or is tried again."""


class Progress:
    """Looks how far everything is; what was read is read again only when it has changed."""

    def __init__(self, folder: Path) -> None:
        """Look at the sweep in `folder`."""
        self._folder = folder
        self._kept: OrderedDict[Path, tuple[tuple[int, int], Any]] = OrderedDict()
        self._still: dict[str, tuple[list[JobRecord], Line]] = {}
        """Lines of variants of which nothing ran, with how their jobs stood: their folders stay as they are."""

    def lines(self, record: SweepRecord) -> list[Line]:
        """Return a line for each job that all variants need and that is not done, and for each variant."""
        jobs = {job.id: job for job in record.jobs}
        mine = {name for variant in record.variants for name in _jobs_of(variant)}
        shared = [job for job in record.jobs if job.id not in mine]
        lines = [self._shared(job) for job in shared if job.state != "done"]
        return lines + [self._variant(one, [jobs[name] for name in _jobs_of(one)]) for one in record.variants]

    def _shared(self, job: JobRecord) -> Line:
        line = Line(job.id, _stage([job]), devices=tuple(job.devices), reason=_reason([job]))
        run = self._folder / "base"
        return self._with_training(line, run, job.state == "running") if job.kind == "train" else line

    def _variant(self, variant: VariantRecord, jobs: list[JobRecord]) -> Line:
        running = [job for job in jobs if job.state == "running"]
        if variant.name in self._still and self._still[variant.name][0] == jobs:
            return self._still[variant.name][1]
        devices = tuple(dict.fromkeys(device for job in running for device in job.devices))
        line = Line(variant.name, _stage(jobs), devices=devices, reason=_reason(jobs))
        if variant.run is not None:
            training = any(job.id == variant.train_job for job in running)
            line = self._with_training(line, self._folder / variant.run, training)
        line = self._with_trials(line, variant, {job.id for job in running})
        if not running:
            self._still[variant.name] = jobs, line
        return line

    def _with_training(self, line: Line, run: Path, training: bool) -> Line:
        lines = self._read(run / "trainer_log.jsonl", _json_lines) or []
        loss = next((float(one["loss"]) for one in reversed(lines) if one.get("loss") is not None), None)
        if not training or not lines:
            return replace(line, loss=loss)
        return replace(line, loss=loss, done=lines[-1].get("current_steps"), total=lines[-1].get("total_steps"))

    def _with_trials(self, line: Line, variant: VariantRecord, running: set[str]) -> Line:
        """Add what is known of the evaluation that runs; else the score of the last one with trials."""
        for evaluation in reversed(variant.evaluations):
            now = evaluation.job in running
            if running and not now and any(one.job in running for one in variant.evaluations):
                continue
            found = self._read(self._folder / evaluation.folder / "results.jsonl", _trials)
            if found is None:
                continue
            done, total, score = found
            return replace(line, score=score, done=done, total=total) if now else replace(line, score=score)
        return line

    def _read(self, path: Path, how: Any) -> Any:
        try:
            status = path.stat()
        except OSError:
            return None
        key = (status.st_size, status.st_mtime_ns)
        if path not in self._kept or self._kept[path][0] != key:
            self._kept[path] = (key, how(path))
        return self._kept[path][1]


def _jobs_of(variant: VariantRecord) -> list[str]:
    training = [variant.train_job] if variant.train_job is not None else []
    return [*training, *(evaluation.job for evaluation in variant.evaluations)]


def _stage(jobs: Sequence[JobRecord]) -> str:
    for state in ("running", "failed", "waiting", "skipped"):
        found = [job for job in jobs if job.state == state]
        if found:
            if state == "waiting" and any(job.kind == "train" and job.state == "done" for job in jobs):
                return "trained"
            return STAGES[found[0].kind] if state == "running" else state
    return "done"


def _reason(jobs: Sequence[JobRecord]) -> str | None:
    return next((job.reason for job in jobs if job.state == "failed" and job.reason), None)


def _json_lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_bytes().splitlines():
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue  # it is being written
        if isinstance(value, dict):
            found.append(value)
    return found


def _trials(path: Path) -> tuple[int, int, float | None] | None:
    try:
        evaluation, trials = read_results(path.parent)
    except UserError:
        return None
    scores = [trial.score for trial in trials if trial.score is not None]
    return len(scores), len(evaluation.places), sum(scores) / len(scores) if scores else None
