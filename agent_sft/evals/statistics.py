"""The numbers of one evaluation, each with its tasks and its 95 % interval. docs/statistics.md explains them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from agent_sft.evals.intervals import mean_interval, ratio_interval, share_interval
from agent_sft.evals.outcomes import SCORE, Measure, Outcome, is_partial, measures, outcomes
from agent_sft.evals.results import Evaluation, Trial, failed, missing, read_results

VIOLATING = "with a violation"
"""The measure of how many conversations violate the policy."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A number, and how sure it is."""

    measure: str
    value: float | None
    """None where no task has enough trials."""
    low: float | None
    high: float | None
    """The ends of the 95 % interval; None for fewer than two tasks."""
    tasks: int
    """The tasks that it is made of."""
    unit: Literal["share", "number"] = "share"
    if_wrong: float | None = None
    """What the value would be if every trial without a score had been wrong; None where all have one."""
    if_right: float | None = None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """All tasks, or those of one family."""

    family: str | None
    tasks: int
    trials: int
    """Trials that were asked for, or for a family those that were run."""
    scored: int
    failed: int
    """Trials that the infrastructure failed."""
    unfinished: int
    """Trials that were asked for and not run yet; of a family this is not known."""
    violations: int | None
    """Violations of the policy in all; None where they were not measured."""
    ended: dict[str, int]
    """Why the trials ended."""
    estimates: list[Estimate]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What one evaluation found."""

    folder: str
    evaluation: Evaluation
    overall: Group
    families: list[Group]
    notes: list[str]
    """What must be known to read the numbers."""


def summarise(folder: str | Path) -> Summary:
    """Return the numbers of the evaluation in a folder.

    Raises:
        UserError: the folder holds no readable evaluation.
    """
    evaluation, trials = read_results(folder)
    unfinished = missing(evaluation, trials)
    overall = _group(None, evaluation, trials, len(unfinished))
    names = sorted({trial.family for trial in trials if trial.family is not None})
    families = []
    for name in names:
        of_family = [trial for trial in trials if trial.family == name]
        tasks = list(dict.fromkeys(trial.task for trial in of_family))
        families.append(_group(name, msgspec.structs.replace(evaluation, tasks=tasks), of_family, 0))
    return Summary(
        folder=str(folder),
        evaluation=evaluation,
        overall=overall,
        families=families,
        notes=_notes(evaluation, overall),
    )


def estimate(measure: Measure, found: Sequence[Outcome]) -> Estimate:
    """Return a measure's mean over the tasks that have enough scored trials, clustered by task."""
    values = [float(value) for value in map(measure.of, found) if value is not None]
    lacking = any(outcome.scored < outcome.asked for outcome in found)
    interval = share_interval(values)
    return Estimate(
        measure=str(measure),
        value=sum(values) / len(values) if values else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        tasks=len(values),
        if_wrong=_completed(measure, found, right=False) if lacking else None,
        if_right=_completed(measure, found, right=True) if lacking else None,
    )


def _completed(measure: Measure, found: Iterable[Outcome], *, right: bool) -> float | None:
    values = [measure.of(outcome.completed(right=right)) for outcome in found]
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _group(family: str | None, evaluation: Evaluation, trials: Sequence[Trial], unfinished: int) -> Group:
    found = outcomes(evaluation, trials)
    scored = [trial for trial in trials if trial.score is not None]
    estimates = [estimate(measure, found) for measure in measures(evaluation.trials)]
    if is_partial(trials):
        estimates.insert(0, estimate(Measure(SCORE), found))
    watched = [trial for trial in scored if trial.violations is not None]
    if watched:
        estimates.append(_mean(VIOLATING, watched, lambda trial: float(bool(trial.violations))))
    if any(trial.tool_calls for trial in scored):
        estimates.append(_validity(scored))
    if any(trial.turns for trial in scored):
        estimates.append(_mean("turns", scored, lambda trial: trial.turns, unit="number"))
    if any(trial.tool_calls for trial in scored):
        estimates.append(_mean("tool calls", scored, lambda trial: trial.tool_calls, unit="number"))
    if any(trial.output_tokens for trial in scored):
        estimates.append(_mean("output tokens", scored, lambda trial: trial.output_tokens, unit="number"))
    if any(trial.seconds for trial in scored):
        estimates.append(_mean("seconds", scored, lambda trial: trial.seconds, unit="number"))
    return Group(
        family=family,
        tasks=len(evaluation.tasks),
        trials=len(trials) + unfinished,
        scored=len(scored),
        failed=len(failed(trials)),
        unfinished=unfinished,
        violations=sum(trial.violations or 0 for trial in watched) if watched else None,
        ended=dict(Counter(trial.ended for trial in trials).most_common()),
        estimates=estimates,
    )


def _mean(
    name: str,
    trials: Iterable[Trial],
    number: Callable[[Trial], float],
    *,
    unit: Literal["share", "number"] = "share",
) -> Estimate:
    """Return the mean over tasks of each task's mean over its trials."""
    by_task: dict[str, list[float]] = {}
    for trial in trials:
        by_task.setdefault(trial.task, []).append(number(trial))
    means = [sum(values) / len(values) for values in by_task.values()]
    interval = share_interval(means) if unit == "share" else mean_interval(means)
    return Estimate(
        measure=name,
        value=sum(means) / len(means),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        tasks=len(means),
        unit=unit,
    )


def _validity(trials: Iterable[Trial]) -> Estimate:
    """Return the share of all tool calls that were not refused."""
    calls: Counter[str] = Counter()
    valid: Counter[str] = Counter()
    for trial in trials:
        if trial.tool_calls:
            calls[trial.task] += trial.tool_calls
            valid[trial.task] += trial.tool_calls - trial.tool_errors
    interval = ratio_interval([valid[task] for task in calls], list(calls.values()))
    return Estimate(
        measure="valid tool calls",
        value=valid.total() / calls.total(),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        tasks=len(calls),
    )


def _notes(evaluation: Evaluation, overall: Group) -> list[str]:
    notes = []
    lacking = overall.failed + overall.unfinished
    if lacking:
        parts = []
        if overall.unfinished:
            parts.append(f"{overall.unfinished:,} were not run yet: the same command again runs them")
        if overall.failed:
            parts.append(
                f"{overall.failed:,} were failed by the infrastructure: `agent-sft eval retry` runs them again"
            )
        notes.append(f"{lacking:,} of {overall.trials:,} trials have no score; {'; '.join(parts)}")
        if overall.scored:
            first = next(one for one in overall.estimates if one.if_wrong is not None)
            ends = f"{first.if_wrong:.3f} with all of them wrong, {first.if_right:.3f} with all right"
            notes.append(f"{first.measure} would be {ends}")
    short = [one for one in overall.estimates if one.measure.startswith("pass^") and one.tasks < overall.tasks]
    if short:
        left_out = ", ".join(f"{one.measure} {overall.tasks - one.tasks:,}" for one in short)
        notes.append(f"tasks left out because they have fewer scored trials than it takes: {left_out}")
    if evaluation.floor is not None:
        notes.append(f"an agent that does nothing scores {evaluation.floor:.3f} here")
        first = next(one for one in overall.estimates if one.measure in ("pass^1", SCORE))
        if first.low is not None and first.low <= evaluation.floor:
            notes.append(f"{first.measure} cannot be told from that")
    if overall.tasks == 1:
        notes.append("there is one task: how tasks differ is not known, so there is no interval")
    return notes
