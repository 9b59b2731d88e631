"""The tables of a sweep's report: the same for the page and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from agent_sft.evals.comparison import SURE, Comparison
from agent_sft.evals.seeds import GroupEstimate
from agent_sft.evals.statistics import VIOLATING, Estimate, Summary
from agent_sft.report.numbers import counted, duration, p_value, places_for, plain, signed
from agent_sft.report.sweep.answer import unit_of
from agent_sft.report.sweep.facts import SweepFacts, VariantFacts
from agent_sft.report.sweep.scores import Part, Scores, last_of
from agent_sft.report.tables import Table

NONE = "–"
SHOWN_REASONS = 12


def variants_table(facts: SweepFacts, scores: Sequence[Scores]) -> Table:
    """Return each variant with what it took and what it scored, by the first evaluator in full."""
    lead = scores[0] if scores else None
    name = facts.record.evaluators[0] if facts.record.evaluators else None
    summaries = [_summary(variant, name) for variant in facts.variants]
    measures = [f"pass^{k}" for k in _sizes(summaries)]
    if lead is not None and lead.measures[0] not in measures:
        measures.insert(0, lead.measures[0])
    columns: list[tuple[str, list[str]]] = [
        (unit_of(facts.record.varied)[0], [_setting(one) for one in facts.variants])
    ]
    columns += [
        ("state", [one.state for one in facts.variants]),
        ("train loss", [_number(one.training.loss if one.training else None) for one in facts.variants]),
        ("eval loss", [_number(one.training.eval_loss if one.training else None) for one in facts.variants]),
        *((measure, [_estimate(summary, measure) for summary in summaries]) for measure in measures),
        (VIOLATING, [_estimate(summary, VIOLATING) for summary in summaries]),
    ]
    for other in facts.record.evaluators[1:]:
        columns.append(_other(facts, other, scores))
    columns += [
        ("answer tokens", [_estimate(summary, "output tokens").partition(" ")[0] for summary in summaries]),
        ("tokens trained", [_whole(one.training.tokens if one.training else None) for one in facts.variants]),
        ("time", [duration(one.seconds) if one.seconds else NONE for one in facts.variants]),
        ("GPU-hours", [f"{one.gpu_hours:.2f}" if one.gpu_hours else NONE for one in facts.variants]),
        ("cost", [f"{one.cost:.2f}" if one.cost is not None else NONE for one in facts.variants]),
    ]
    finished = all(one.state == "done" for one in facts.variants)
    columns = [
        (title, cells)
        for title, cells in columns
        if any(cell != NONE for cell in cells)
        and not (title == "state" and finished)
        and cells != [one.record.name for one in facts.variants]
    ]
    notes = ["score [95 % interval over tasks], of each model by itself"]
    if lead is not None and lead.floor is not None:
        notes.append(f"an agent that does nothing scores {lead.floor:.2f} on these tasks")
    if facts.record.gpu_price is not None:
        notes.append(f"cost at {facts.record.gpu_price:g} for one GPU and hour")
    if any(one.seconds for one in facts.variants):
        notes.append("time is that of the variant's jobs added up; jobs of several variants ran beside each other")
    return Table(
        title="The variants" + (f", scored by {name}" if name else ""),
        columns=["variant", *(title for title, _ in columns)],
        rows=[[one.record.name, *(cells[number] for _, cells in columns)] for number, one in enumerate(facts.variants)],
        notes=notes,
    )


def measures_table(scores: Scores, facts: SweepFacts) -> Table:
    """Return everything that an evaluator measured, a row for each measure."""
    found = [(one.record.name, _summary(one, scores.evaluator)) for one in facts.variants]
    there = [(name, summary) for name, summary in found if summary is not None]
    names = dict.fromkeys(one.measure for _, summary in there for one in summary.overall.estimates)
    return Table(
        title=f"Everything that {scores.evaluator} measured",
        columns=["mean over tasks", *(name for name, _ in there)],
        rows=[[name, *(_estimate(summary, name) for _, summary in there)] for name in names],
        notes=["pass^k: all of k trials of a task succeed; pass@k: at least one does"],
    )


def groups_table(scores: Scores) -> Table:
    """Return the score of each setting, of all tasks and of each family."""
    rows = []
    for part in scores.parts:
        label = f"{part.measure}, {part.family or 'all tasks'}"
        rows.append([label, *(value_and_ends(one.estimate) for one in part.estimates)])
    return Table(
        title=f"Scores by {scores.evaluator}",
        columns=["measure, tasks", *(one.name for one in scores.settings)],
        rows=rows,
        notes=[_interval_note(scores)],
    )


def comparison_table(scores: Scores, part: Part) -> Table | None:
    """Return a pairwise comparison against the baseline."""
    found = part.comparison
    if found is None:
        return None
    several = len(found.differences) > 1
    by = {one.variant: one for one in found.differences}
    rows = []
    for variant in found.variants:
        one = by.get(variant.folder)
        if one is None:
            rows.append([variant.folder, f"{variant.value:.3f}", "baseline", "", "", "", "", ""])
            continue
        ends = _signed_ends(one.low, one.high)
        needed = NONE if abs(one.value) < 1e-12 else "none" if one.tasks_needed is None else f"{one.tasks_needed:,}"
        change = f"{signed(one.value, 3)}{ends}"
        counts = f"{len(one.gained):,} / {len(one.lost):,}"
        told = [p_value(one.p), p_value(one.p_corrected), counts, needed, one.verdict]
        rows.append([variant.folder, f"{variant.value:.3f}", change, *told])
    where = f" on {part.family} tasks" if part.family else ""
    columns = ["variant", part.measure, "difference", "p", "p, Holm", "tasks gained / lost", "tasks to tell", "verdict"]
    if not several:
        columns.pop(4)
        rows = [[*row[:4], *row[5:]] for row in rows]
    return Table(
        title=f"{part.measure}{where} against {found.baseline}",
        columns=columns,
        rows=rows,
        notes=[*_comparison_notes(part, found), *found.notes],
    )


def trends_table(scores: Scores) -> Table | None:
    """Return the trend of all tasks and of each family, by each measure."""
    rows = []
    for part in scores.parts:
        trend = part.comparison.trend if part.comparison is not None else None
        if trend is None or part.trend_p is None:
            continue
        places = places_for(trend.high - trend.low, 4) if trend.low is not None and trend.high is not None else 4
        ends = _signed_ends(trend.low, trend.high, places)
        verdict = "cannot tell" if part.trend_p >= SURE else "falls" if trend.slope < 0 else "rises"
        label = f"{part.measure}, {part.family or 'all tasks'}"
        rows.append([label, f"{signed(trend.slope, places)}{ends}", p_value(trend.p), p_value(part.trend_p), verdict])
    if not rows:
        return None
    name, unit = unit_of(scores.varied)
    return Table(
        title=f"The trend with {name}",
        columns=["measure, tasks", f"change per {unit or 'unit'}", "p", "p, Holm", "verdict"],
        rows=rows,
        notes=["the mean over tasks of each task's least-squares slope; Holm's correction is over the families"],
    )


def seeds_table(scores: Scores, measure: str) -> Table | None:
    """Return the mean of each seed, and what the variance of a variant's mean consists of."""
    part = scores.part(measure)
    if part is None or not any(one.crossed is not None for one in part.estimates):
        return None
    seeds = sorted({seed for one in part.estimates for seed in one.by_seed})
    rows = [[one.group, *(_seed(one, seed) for seed in seeds), value_and_ends(one.estimate), *_shares(one)]
            for one in part.estimates]  # fmt: skip
    return Table(
        title=f"{measure} by training seed, and where the variance of the mean comes from",
        columns=["variant", *(f"seed {seed}" for seed in seeds), "mean", "SE", "seeds", "tasks", "rest", "SD of seeds"],
        rows=rows,
        notes=[
            "the interval covers other seeds and other tasks; seeds, tasks and rest are shares of the mean's variance",
            "rest: what seed and task together change, and the chance of the trials; SD of seeds: how far single "
            "trainings lie from their mean, beyond what their tasks explain",
        ],
    )


def value_and_ends(one: Estimate) -> str:
    """Return a score with its interval."""
    if one.value is None:
        return NONE
    if one.unit == "number":
        ends = f" [{one.low:,.1f}, {one.high:,.1f}]" if one.low is not None and one.high is not None else ""
        return f"{one.value:,.1f}{ends}"
    ends = f" [{one.low:.2f}, {one.high:.2f}]" if one.low is not None and one.high is not None else ""
    return f"{one.value:.3f}{ends}"


def _interval_note(scores: Scores) -> str:
    several = any(len(one.folders) > 1 for one in scores.settings)
    over = "tasks and training seeds" if several else "tasks"
    return f"[95 % interval over {over}]; {counted(scores.tasks, 'task')} × {counted(scores.trials, 'trial')}"


def _comparison_notes(part: Part, found: Comparison) -> Iterator[str]:
    least = [one.detectable for one in found.differences if one.detectable is not None]
    if least and part.family is None and found.seeds == 1:
        yield f"with {counted(found.tasks, 'task')}, differences from {min(least):.3f} on are found four times in five"
    if found.seeds > 1 and any(one.tasks_needed is None and abs(one.value) > 1e-12 for one in found.differences):
        yield "no number of tasks tells what the seeds leave open: that takes more training seeds"
    told = [one for one in found.differences if one.verdict != "cannot tell" and one.low is not None]
    if any((one.low or 0.0) <= 0 <= (one.high or 0.0) for one in told):
        yield (
            "an interval that reaches 0 beside a small p: it is put together from those of both variants, and so wider "
            "than need be where one of them solves next to all tasks or none; the verdict is by p"
        )


def _signed_ends(low: float | None, high: float | None, places: int = 3) -> str:
    return f" [{signed(low, places)}, {signed(high, places)}]" if low is not None and high is not None else ""


def _summary(variant: VariantFacts, evaluator: str | None) -> Summary | None:
    one = last_of(variant.evaluations, evaluator) if evaluator else None
    return one.summary if one is not None else None


def _sizes(summaries: Iterable[Summary | None]) -> list[int]:
    names = {one.measure for summary in summaries if summary for one in summary.overall.estimates}
    return sorted(int(name[5:]) for name in names if name.startswith("pass^"))


def _setting(one: VariantFacts) -> str:
    return plain(one.record.value) if one.record.value is not None else NONE


def _estimate(summary: Summary | None, measure: str) -> str:
    found = next((one for one in summary.overall.estimates if one.measure == measure), None) if summary else None
    return value_and_ends(found) if found is not None else NONE


def _other(facts: SweepFacts, evaluator: str, scores: Sequence[Scores]) -> tuple[str, list[str]]:
    """Return what a further evaluator found, by its first measure; of the evaluator `loss` the loss itself."""
    own = next((one for one in scores if one.evaluator == evaluator), None)
    measure = own.measures[0] if own is not None else ""
    cells = []
    for variant in facts.variants:
        one = last_of(variant.evaluations, evaluator)
        losses = [trial.detail["loss"] for trial in one.trials if "loss" in trial.detail] if one is not None else []
        cells.append(f"{sum(losses) / len(losses):.4f}" if losses else _estimate(one.summary if one else None, measure))
    loss = own is not None and own.kind == "loss"
    return f"{evaluator}, {'loss' if loss else measure}", cells


def _seed(one: GroupEstimate, seed: int) -> str:
    return f"{one.by_seed[seed]:.3f}" if seed in one.by_seed else NONE


def _shares(one: GroupEstimate) -> list[str]:
    found = one.crossed
    if found is None:
        return [NONE] * 5
    total = found.variance
    parts = (found.from_seeds, found.from_tasks, found.from_rest)
    shares = [f"{part / total:.0%}" if total > 1e-20 else NONE for part in parts]
    return [f"{total**0.5:.3f}", *shares, f"{(found.from_seeds * found.seeds) ** 0.5:.3f}"]


def _number(value: float | None) -> str:
    return f"{value:.4f}" if value is not None else NONE


def _whole(value: int | None) -> str:
    return f"{value:,}" if value is not None else NONE
