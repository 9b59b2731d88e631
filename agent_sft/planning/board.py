"""The candidates compared, and the final model with the untrained one: who is best, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent_sft.engines.llamafactory.results import read_result
from agent_sft.errors import UserError, WorkFailed
from agent_sft.evals.comparison import Difference, compare
from agent_sft.evals.intervals import mean_interval
from agent_sft.evals.losses import Losses, compare_losses, loss_table, read_losses
from agent_sft.evals.outcomes import FIRST, SCORE, is_partial
from agent_sft.evals.results import read_results
from agent_sft.evals.statistics import summarise
from agent_sft.planning.costs import hours_of
from agent_sft.planning.halving import Rung
from agent_sft.planning.sweeps import BASE, FINAL, LOSS, Machine
from agent_sft.report.numbers import counted, p_value, places_for, signed
from agent_sft.report.plan.record import Candidate, Judged, Judgement, Line, Scoreboard
from agent_sft.report.sweep.record import SweepRecord, VariantRecord


@dataclass(frozen=True)
class _Found:
    """What evaluations found of several models, by the models' names."""

    measure: str
    unit: str
    samples: int
    losses: dict[str, float]
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    best: str
    differences: dict[str, Difference]
    """Of each other model, against the best."""


def scoreboard(
    record: SweepRecord,
    folder: Path,
    candidates: Sequence[Candidate],
    decider: str | None,
    machine: Machine,
    stopped: Mapping[str, Rung] | None = None,
) -> Scoreboard:
    """Compare candidates: those that were trained to their end with each other, the others with the winner's rung.

    Args:
        record: of their sweep.
        folder: of it.
        candidates: in their order.
        decider: the name of the evaluator that decides; None for the loss.
        machine: by whose shares hours are counted.
        stopped: where those were stopped that fell behind, by their names.

    Raises:
        WorkFailed: none of them could be trained and scored.
    """
    stopped = stopped or {}
    variants = {one.name: one for one in record.variants}
    folders = {
        one.name: places
        for one in candidates
        if (places := _finished(record, folder, variants[one.name], decider)) is not None
    }
    reasons = {one.name: _why_not(record, variants[one.name]) for one in candidates}
    if not folders:
        why = next((reason for reason in reasons.values() if reason), "see its log")
        raise WorkFailed(
            f"no candidate could be trained and scored: {why}",
            fix=f"look at `agent-sft sweep logs {folder}`; the same command tries again",
        )
    # Of two that are the same, the smaller adapter comes first.
    by_size = sorted(folders, key=lambda name: next(one.rank or 0 for one in candidates if one.name == name))
    found = _compared({name: folders[name] for name in by_size if name not in stopped}, decider)
    winner = next(one for one in candidates if one.name == found.best)
    at_rung = {
        rung: _at_rung(rung, winner, {name: folders[name] for name in folders if stopped.get(name) == rung}, decider)
        for rung in set(stopped.values())
    }
    lines = []
    for one in candidates:
        rung = stopped.get(one.name)
        told = at_rung[rung] if rung is not None else found
        line = _line(one, told, record, variants[one.name], reasons[one.name], machine)
        if rung is not None and line.state == "done":
            step = rung.step(one) or one.steps
            why = f"stopped at step {step:,} of {one.steps:,}; compared at that step"
            line = msgspec.structs.replace(line, state="stopped", reason=why, steps=step)
        lines.append(line)
    ties = [line.candidate for line in lines if line.against == "a tie"]
    return Scoreboard(
        measure=found.measure,
        unit=found.unit,
        samples=found.samples,
        winner=winner.number,
        tie=bool(ties),
        sentences=_said_of_candidates(found, winner, ties, lines),
        lines=lines,
    )


def ranking(record: SweepRecord, folder: Path, candidates: Sequence[Candidate], decider: str | None) -> list[str]:
    """Return the names of the candidates that were scored, the best first.

    Args:
        record: of their sweep, as far as it has gone.
        folder: of it.
        candidates: those to rank.
        decider: the name of the evaluator that decides; None for the loss.
    """
    variants = {one.name: one for one in record.variants}
    places = {one.name: _finished(record, folder, variants[one.name], decider) for one in candidates}
    there = {name: place for name, place in places.items() if place is not None}
    if not there:
        return []
    found = _compared(there, decider)
    return sorted(there, key=lambda name: (-found.scores.get(name, 0.0), found.losses[name]))


def judgement(
    record: SweepRecord, folder: Path, winner: Candidate, decider: str | None, *, trained: bool, model: Path
) -> Judgement:
    """Compare the final model with the one that it was made of.

    Raises:
        WorkFailed: one of them could not be scored.
    """
    variants = {one.name: one for one in record.variants}
    folders = {}
    for name in (BASE, FINAL):
        places = _finished(record, folder, variants[name], decider)
        if places is None:
            reason = _why_not(record, variants[name]) or "see its log"
            raise WorkFailed(f"the {name} model could not be scored: {reason}", fix="the same command tries again")
        folders[name] = places
    found = _compared(folders, decider, best=BASE)
    result = read_result(model)
    return Judgement(
        model=str(model),
        candidate=winner.number,
        trained=trained,
        measure=found.measure,
        unit=found.unit,
        samples=found.samples,
        models=[
            Judged(
                name=name,
                loss=found.losses.get(name),
                score=found.scores.get(name),
                low=found.intervals.get(name, (None, None))[0],
                high=found.intervals.get(name, (None, None))[1],
                folders={evaluator: str(path.relative_to(folder.parent)) for evaluator, path in places.items()},
            )
            for name, places in folders.items()
        ],
        sentences=[_said_of_final(found)],
        train_loss=result.train_loss,
        steps=result.steps,
    )


def _compared(folders: Mapping[str, Mapping[str, Path]], decider: str | None, best: str | None = None) -> _Found:
    """Compare models with the best of them, or with one that is named."""
    losses: dict[str, Losses] = {name: read_losses(places[LOSS]) for name, places in folders.items()}
    table = loss_table(losses)
    means = {name: table.mean(name) for name in losses}
    if decider is None:
        best = best or min(means, key=lambda name: means[name])
        intervals = {
            name: (interval.low, interval.high)
            for name, values in table.values.items()
            if (interval := mean_interval(values)) is not None
        }
        told = {one.variant: one for one in compare_losses(table, best)}
        return _Found(LOSS, table.unit, len(next(iter(losses.values())).losses), means, {}, intervals, best, told)
    places = {name: places[decider] for name, places in folders.items()}
    measure = SCORE if any(is_partial(read_results(place)[1]) for place in places.values()) else FIRST
    scores, ends, tasks = {}, {}, 0
    for name, place in places.items():
        estimate = next(one for one in summarise(place).overall.estimates if one.measure == measure)
        if estimate.value is None:
            raise WorkFailed(f"{name} has no score: too few trials could be run")
        scores[name], tasks = estimate.value, estimate.tasks
        if estimate.low is not None and estimate.high is not None:
            ends[name] = (estimate.low, estimate.high)
    best = best or max(scores, key=lambda name: (scores[name], -means[name]))
    differences: dict[str, Difference] = {}
    if len(places) > 1:
        names = {str(place): name for name, place in places.items()}
        compared = compare(list(names), baseline=places[best], measure=measure, common_tasks=True)
        for one in compared.differences:
            differences[names[one.variant]] = msgspec.structs.replace(one, variant=names[one.variant])
        tasks = compared.tasks
    return _Found(measure, table.unit, tasks, means, scores, ends, best, differences)


def _at_rung(rung: Rung, winner: Candidate, folders: dict[str, dict[str, Path]], decider: str | None) -> _Found:
    """Compare those that were stopped at a rung with the winner as it was there."""
    own = next(iter(folders.values()), {})
    # evaluations/CANDIDATE/step-N/EVALUATOR
    place = {name: path.parents[2] / winner.name / f"step-{rung.step(winner)}" / name for name, path in own.items()}
    return _compared({winner.name: place, **folders}, decider, best=winner.name)


def _finished(record: SweepRecord, folder: Path, variant: VariantRecord, decider: str | None) -> dict[str, Path] | None:
    """Return the evaluations of a variant by evaluator; None where one that is needed did not end."""
    states = {job.id: job.state for job in record.jobs}
    done = {one.evaluator: folder / one.folder for one in variant.evaluations if states.get(one.job) == "done"}
    return done if {LOSS, *([decider] if decider else [])} <= done.keys() else None


def _why_not(record: SweepRecord, variant: VariantRecord) -> str | None:
    own = [variant.train_job, *(one.job for one in variant.evaluations)]
    return next((f"{job.id} {job.state}: {job.reason}" for job in record.jobs
                 if job.id in own and job.state == "failed"), None)  # fmt: skip


def _line(
    one: Candidate,
    found: _Found,
    record: SweepRecord,
    variant: VariantRecord,
    reason: str | None,
    machine: Machine,
) -> Line:
    own = [str(variant.train_job), *(each.job for each in variant.evaluations)]
    scored = one.name in found.losses
    difference = found.differences.get(one.name)
    against = "the best" if one.name == found.best else ""
    if difference is not None:
        against = "a tie" if difference.verdict == "cannot tell" else "worse"
    low, high = found.intervals.get(one.name, (None, None))
    return Line(
        candidate=one,
        state="done" if scored else "failed",
        reason=None if scored else reason,
        loss=found.losses.get(one.name),
        score=found.scores.get(one.name),
        low=low,
        high=high,
        against=against,
        difference=difference.value if difference else None,
        difference_low=difference.low if difference else None,
        difference_high=difference.high if difference else None,
        p=difference.p_corrected if difference else None,
        seconds=sum(job.seconds for job in record.jobs if job.id in own),
        device_hours=hours_of(record, machine, own),
        steps=one.steps if scored else 0,
    )


def _said_of_candidates(found: _Found, winner: Candidate, ties: list[Candidate], lines: list[Line]) -> list[str]:
    sentences = []
    value = found.scores.get(winner.name, found.losses[winner.name])
    what = f"held-out loss {value:.4f} {found.unit}" if found.measure == LOSS else f"{found.measure} {value:.2f}"
    sample = counted(found.samples, "conversation" if found.measure == LOSS else "task")
    others = [one for one in found.differences.values() if one.verdict != "cannot tell"]
    stopped = [line for line in lines if line.state == "stopped"]
    if stopped:
        sentences.append(_said_of_stopped(winner, what, sample, stopped, lines))
    elif not found.differences:
        sentences.append(f"Candidate {winner.number} is the only one that was scored: {what} on {sample}.")
    elif ties:
        names = ", ".join(str(one.number) for one in ties)
        head = f"A tie: candidate {winner.number} has the best mean ({what}), and on {sample}"
        sentences.append(f"{head} it cannot be told from {'candidate' if len(ties) == 1 else 'candidates'} {names}.")
        closest = min((found.differences[one.name] for one in ties), key=lambda one: one.p)
        number = next(one.number for one in ties if one.name == closest.variant)
        sentences.append(f"The clearest of them, candidate {number}: {_difference(closest)}. {_needed(closest, found)}")
        if others:
            sentences.append(f"{counted(len(others), 'candidate')} {'is' if len(others) == 1 else 'are'} worse.")
    else:
        sentences.append(f"Candidate {winner.number} is the best ({what} on {sample}), and told from all others.")
    failed = [line.candidate.number for line in lines if line.state == "failed"]
    if failed:
        names = ", ".join(map(str, failed))
        sentences.append(f"Candidate {names} failed and does not count." if len(failed) == 1
                         else f"Candidates {names} failed and do not count.")  # fmt: skip
    return sentences


def _said_of_stopped(winner: Candidate, what: str, sample: str, stopped: list[Line], lines: list[Line]) -> str:
    """Say who is left where others were stopped, which of those were close, and what that saved."""
    close = [str(line.candidate.number) for line in stopped if line.against == "a tie"]
    ended = [line for line in lines if line.state == "done"]
    made, all_steps = sum(line.steps for line in lines), sum(line.candidate.steps for line in lines)
    left = "is the one that is left" if len(ended) == 1 else f"is the best of {len(ended)} that are left"
    tie = f" A tie: it could not be told from {', '.join(close)} when those were stopped." if close else ""
    saved = f"{made:,} of {all_steps:,} training steps were made, {made / max(1, all_steps):.0%}"
    return f"Candidate {winner.number} {left} ({what} on {sample}); {len(stopped)} were stopped: {saved}.{tie}"


def _said_of_final(found: _Found) -> str:
    difference = found.differences[FINAL]
    values = found.scores or found.losses
    places = 4 if found.measure == LOSS else 2
    name = "the held-out loss" if found.measure == LOSS else found.measure
    sample = counted(found.samples, "conversation" if found.measure == LOSS else "task")
    ends = f"{values[BASE]:.{places}f} before, {values[FINAL]:.{places}f} after"
    if difference.verdict == "cannot tell":
        return (
            f"Whether training changed {name} cannot be told: {ends} ({_difference(difference)}; {sample}). "
            f"{_needed(difference, found)}"
        )
    return f"Training made {name} {difference.verdict}: {ends} ({_difference(difference)}; {sample})."


def _difference(one: Difference) -> str:
    places = 2 if one.low is None or one.high is None else places_for(one.high - one.low)
    ends = ""
    if one.low is not None and one.high is not None:
        ends = f", 95 % interval {signed(one.low, places)} to {signed(one.high, places)}"
    p = p_value(one.p_corrected)
    return f"difference {signed(one.value, places)}{ends}, p {p if p.startswith('<') else f'= {p}'}"


def _needed(one: Difference, found: _Found) -> str:
    unit = "conversations" if found.measure == LOSS else "tasks"
    if one.tasks_needed is None:
        return "There is no difference to speak of."
    if one.tasks_needed <= found.samples:
        return f"As many {unit} would tell a difference of this size four times in five: it is close."
    return f"It would take about {one.tasks_needed:,} {unit} to tell a difference of this size four times in five."


def check_promotable(board: Scoreboard, number: int) -> None:
    """Refuse to promote what is no scored candidate.

    Raises:
        UserError: there is no such candidate, or it failed.
    """
    line = board.line(number)
    there = ", ".join(str(one.candidate.number) for one in board.lines if one.state == "done")
    if line is None:
        raise UserError(f"there is no candidate {number}", where="--candidate", fix=f"choose from {there}")
    if line.state != "done":
        what = "was" if line.state == "stopped" else "failed:"
        raise UserError(f"candidate {number} {what} {line.reason}", where="--candidate", fix=f"choose from {there}")
