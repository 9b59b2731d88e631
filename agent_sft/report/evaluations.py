"""The numbers of evaluations, and of their comparison, as tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import orjson

from agent_sft.evals.comparison import Comparison, Difference, Trend
from agent_sft.evals.outcomes import FIRST, SCORE
from agent_sft.evals.statistics import VIOLATING, Estimate, Summary
from agent_sft.report.numbers import counted, p_value
from agent_sft.report.tables import Table, comma_separated, markdown, terminal

Format = Literal["table", "json", "csv", "markdown"]
FORMATS: tuple[Format, ...] = ("table", "json", "csv", "markdown")


def show_summaries(summaries: Sequence[Summary], shape: Format) -> str:
    """Return what evaluations found, as text of one of the formats."""
    if shape == "json":
        return _json([msgspec.to_builtins(summary) for summary in summaries])
    if shape == "csv":
        return comma_separated([row for summary in summaries for row in summary_rows(summary)])
    return _written([table for summary in summaries for table in _summary_tables(summary)], shape)


def show_comparison(comparison: Comparison, shape: Format) -> str:
    """Return a comparison, as text of one of the formats."""
    if shape == "json":
        return _json(msgspec.to_builtins(comparison))
    if shape == "csv":
        return comma_separated(_comparison_rows(comparison))
    return _written([_comparison_table(comparison)], shape)


def _written(tables: Sequence[Table], shape: Format) -> str:
    return markdown(tables) if shape == "markdown" else terminal(tables)


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _summary_tables(summary: Summary) -> list[Table]:
    evaluation, overall = summary.evaluation, summary.overall
    user = f", customer {evaluation.user_model}" if evaluation.user_model is not None else ""
    head = f"{summary.folder}: {evaluation.model} on {evaluation.benchmark}"
    ended = ", ".join(f"{why} {count:,}" for why, count in overall.ended.items())
    notes = [f"{overall.scored:,} of {overall.trials:,} trials have a score" + (f"; ended: {ended}" if ended else "")]
    if overall.violations is not None:
        notes.append(f"violations of the policy: {overall.violations:,}")
    measured = Table(
        title=f"{head}, {counted(len(evaluation.tasks), 'task')} x {counted(evaluation.trials, 'trial')}{user}",
        columns=["mean over tasks", "", "95 % interval", "tasks"],
        rows=[[one.measure, _value(one), _ends(one), f"{one.tasks:,}"] for one in overall.estimates],
        notes=[*notes, *summary.notes],
    )
    return [measured, _family_table(summary)] if summary.families else [measured]


def _family_table(summary: Summary) -> Table:
    """Return the measures that families are told apart by; the other formats hold all of them."""
    last = summary.evaluation.trials
    names = [name for name in (SCORE, FIRST, f"pass^{last}" if last > 1 else "", VIOLATING) if name]
    names = [name for name in names if any(one.measure == name for one in summary.overall.estimates)]
    rows = []
    for group in summary.families:
        found = {one.measure: one for one in group.estimates}
        cells = [cell for name in names for cell in (_value(found.get(name)), _ends(found.get(name)))]
        rows.append([str(group.family), f"{group.tasks:,}", f"{group.scored:,}", *cells])
    columns = [cell for name in names for cell in (name, "95 % interval")]
    return Table(title="by family", columns=["", "tasks", "scored trials", *columns], rows=rows)


def summary_rows(summary: Summary) -> list[dict[str, Any]]:
    """Return an evaluation as rows: one for each measure, of all tasks and of each family."""
    return [
        {
            "folder": summary.folder,
            "model": summary.evaluation.model,
            "benchmark": summary.evaluation.benchmark,
            "family": group.family,
            "tasks_asked": group.tasks,
            "trials_asked": group.trials,
            "trials_scored": group.scored,
            **msgspec.to_builtins(one),
        }
        for group in (summary.overall, *summary.families)
        for one in group.estimates
    ]


def _comparison_table(comparison: Comparison) -> Table:
    several = len(comparison.differences) > 1
    found = {one.variant: one for one in comparison.differences}
    columns = ["", comparison.measure, "difference", "95 % interval", "p, Holm" if several else "p", "gained", "lost"]
    names = _short([variant.folder for variant in comparison.variants])
    rows, notes = [], []
    for variant in comparison.variants:
        name, one = names[variant.folder], found.get(variant.folder)
        setting = f" ({variant.setting:g})" if variant.setting is not None else ""
        cells = [f"{name}{setting}", f"{variant.value:.3f}"]
        if one is None:
            rows.append([*cells, "baseline", *[""] * (len(columns) - 2)])
            continue
        counts = [f"{len(one.gained):,}", f"{len(one.lost):,}"]
        rows.append([*cells, f"{one.value:+.3f}", _ends(one, "+"), p_value(one.p_corrected), *counts, one.verdict])
        if one.low is not None:
            notes.append(_power(name, one, comparison.tasks))
    trend = comparison.trend
    if trend is not None:
        ends = "" if trend.low is None else f" {_ends(trend, '+')}"
        notes.insert(0, f"trend: {trend.verdict}, {trend.slope:+.3g}{ends} a unit of the setting, p {p_value(trend.p)}")
    family = f" of the family {comparison.family}" if comparison.family is not None else ""
    return Table(
        title=f"{comparison.measure} on the same {counted(comparison.tasks, 'task')}{family}",
        columns=[*columns, "verdict"],
        rows=rows,
        notes=[*notes, *comparison.notes],
    )


def _short(folders: Sequence[str]) -> dict[str, str]:
    """Return the folders without what all of their paths begin with."""
    common = os.path.commonpath([Path(folder).absolute().parent for folder in folders])
    return {folder: os.path.relpath(folder, common) for folder in folders}


def _power(name: str, one: Difference, tasks: int) -> str:
    needed = "no number of tasks" if one.tasks_needed is None else f"{one.tasks_needed:,} tasks"
    least = "" if one.detectable is None else f"; {tasks:,} tasks tell one from {one.detectable:.3f} on"
    return f"{name}: {needed} would tell such a difference with 80 % power{least}"


def _comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    head = {"measure": comparison.measure, "family": comparison.family, "tasks": comparison.tasks}
    rows = []
    for one in comparison.differences:
        cells = {"kind": "difference", "variant": one.variant, "baseline": comparison.baseline, **head}
        cells |= {**msgspec.to_builtins(one), "gained": len(one.gained), "lost": len(one.lost)}
        rows.append(cells)
    if comparison.trend is not None:
        trend = {**dict.fromkeys(rows[0]), **head, "kind": "trend", **msgspec.to_builtins(comparison.trend)}
        trend["value"] = trend.pop("slope")
        rows.append(trend)
    return rows


def _value(one: Estimate | None) -> str:
    if one is None or one.value is None:
        return "-"
    return f"{one.value:.3f}" if one.unit == "share" else f"{one.value:,.1f}"


def _ends(one: Estimate | Difference | Trend | None, sign: str = "") -> str:
    if one is None or one.low is None or one.high is None:
        return "-"
    shape = f"{sign},.1f" if isinstance(one, Estimate) and one.unit == "number" else f"{sign}.3f"
    return f"[{one.low:{shape}}, {one.high:{shape}}]"
