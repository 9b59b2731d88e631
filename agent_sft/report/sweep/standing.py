"""How far a sweep is: what is there, and what is missing from its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from agent_sft.report.numbers import counted, duration, moment
from agent_sft.report.sweep.facts import SweepFacts
from agent_sft.report.sweep.scores import Scores


def standing(facts: SweepFacts) -> list[str]:
    """Return the sweep's state in a few words each."""
    record = facts.record
    states = Counter(one.state for one in facts.variants)
    seconds = sum(one.seconds for one in record.jobs)
    gpu_hours = sum(one.gpu_seconds for one in record.jobs) / 3600
    lines = [
        f"finished {moment(record.finished)}" if record.finished else f"not finished, as of {moment(record.updated)}",
        f"{states['done']} of {counted(len(facts.variants), 'variant')} done",
    ]
    if seconds:
        lines.append(f"{duration(seconds)} of work")
    if gpu_hours:
        lines.append(f"{gpu_hours:.2f} GPU-hours")
        if record.gpu_price is not None:
            lines.append(f"cost {gpu_hours * record.gpu_price:.2f}")
    if record.baseline is not None:
        lines.append(f"baseline {record.baseline}")
    return lines


def unfinished(facts: SweepFacts, scores: Sequence[Scores]) -> list[str]:
    """Return what is missing, in sentences."""
    lines = []
    for variant in facts.variants:
        if variant.state == "done":
            continue
        training = variant.training
        step = ""
        if variant.state == "running" and training is not None and training.steps < (training.planned or 0):
            step = f", at step {training.steps:,} of {training.planned:,}"
        lines.append(f"{variant.record.name} is {_state(variant.state)}{step}.")
    for found in scores:
        lines += [f"Not in the comparison by {found.evaluator}: {line}." for line in found.waiting]
        for setting in found.settings:
            for seed, folder in setting.folders.items():
                lacking = _lacking(facts, folder)
                if lacking:
                    name = setting.name + (f", seed {seed}" if len(setting.folders) > 1 else "")
                    what = f"{counted(lacking, 'trial')} of {name} could not be run by {found.evaluator}"
                    lines.append(f"{what} and have no score.")
    return lines


def _lacking(facts: SweepFacts, folder: object) -> int:
    for variant in facts.variants:
        for one in variant.evaluations:
            if one.folder == folder and one.summary is not None:
                return one.summary.overall.trials - one.summary.overall.scored
    return 0


def _state(state: str) -> str:
    return {"waiting": "waiting", "running": "going on", "failed": "not complete: a job failed"}.get(state, state)
