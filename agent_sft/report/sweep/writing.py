"""Writes the report of a sweep: the page, and the same numbers as Markdown, JSON and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import orjson

from agent_sft.files import write_atomic
from agent_sft.report.evaluations import summary_rows
from agent_sft.report.sweep import failure_tables, making, tables
from agent_sft.report.sweep.answer import answer
from agent_sft.report.sweep.facts import SweepFacts, read_sweep
from agent_sft.report.sweep.failing import read_attempts
from agent_sft.report.sweep.page import sweep_page
from agent_sft.report.sweep.scores import Scores, read_scores
from agent_sft.report.sweep.standing import standing, unfinished
from agent_sft.report.sweep.viewer import VIEWER, make_viewer
from agent_sft.report.tables import Table, comma_separated, markdown

REPORT = "report"
"""The report's folder in that of the sweep."""
PAGE = "index.html"
FILES = {"html": PAGE, "markdown": "report.md", "json": "report.json", "csv": "report.csv"}


def write_report(folder: Path, *, viewer: bool = False) -> Path:
    """Write the report of the sweep in a folder, as far as the sweep is; return the page.

    Args:
        folder: of the sweep.
        viewer: bundle Inspect's own viewer beside it, where there are logs of Inspect: that takes seconds.

    Raises:
        UserError: there is no sweep, or the report cannot be written.
    """
    facts = read_sweep(folder)
    scores = read_scores(facts)
    place = folder / REPORT
    why_not = make_viewer(facts, place / VIEWER) if viewer else None
    bundled = (place / VIEWER / PAGE).is_file()
    write_atomic(place / FILES["markdown"], as_markdown(facts, scores))
    write_atomic(place / FILES["json"], as_json(facts, scores))
    write_atomic(place / FILES["csv"], as_csv(facts))
    write_atomic(place / PAGE, sweep_page(facts, scores, viewer=bundled, why_not=why_not))
    return place / PAGE


def as_markdown(facts: SweepFacts, scores: Sequence[Scores]) -> str:
    """Return the report as Markdown: the sentences and the tables."""
    record = facts.record
    head = [f"# {record.name}", *([record.question] if record.question else []), "; ".join(standing(facts)) + "."]
    lines = [*head, "## The answer"]
    for found in scores:
        lines.append("\n".join(f"- {sentence}" for sentence in answer(found)))
    if not scores:
        lines.append("Nothing has been scored yet.")
    lacking = unfinished(facts, scores)
    if lacking:
        lines.append("\n".join(f"- {line}" for line in lacking))
    for failure in facts.failures:
        tail = "\n".join(["", "```text", *failure.tail, "```"]) if failure.tail else ""
        lines.append(f"{failure.job.id} failed: {failure.job.reason or 'see its log'}{tail}")
    found_tables: list[Table | None] = [tables.variants_table(facts, scores)]
    for found in scores:
        found_tables += [tables.groups_table(found), tables.trends_table(found)]
        found_tables += [tables.comparison_table(found, part) for part in found.parts if part.family is None]
        found_tables += [tables.seeds_table(found, measure) for measure in found.measures]
        attempts = read_attempts(facts, found.evaluator)
        found_tables += [failure_tables.family_table(attempts), failure_tables.reason_table(attempts)]
    found_tables += [making.data_table(facts), making.made_with_table(facts), making.jobs_table(facts)]
    lines.append(markdown([one for one in found_tables if one is not None]))
    return "\n\n".join(lines) + "\n"


def as_json(facts: SweepFacts, scores: Sequence[Scores]) -> bytes:
    """Return the report as JSON: all numbers, without trials and conversations."""
    record = msgspec.to_builtins(facts.record)
    variants = {one.pop("name"): one for one in record.pop("variants")}
    for variant in facts.variants:
        entry = variants[variant.record.name]
        entry |= {
            "state": variant.state,
            "seconds": variant.seconds,
            "gpu_hours": variant.gpu_hours,
            "cost": variant.cost,
            "training": msgspec.to_builtins(variant.training),
        }
        for one, told in zip(variant.evaluations, entry["evaluations"], strict=True):
            told |= {"state": one.state, "problem": one.problem}
            told["summary"] = _relative(facts, msgspec.to_builtins(one.summary)) if one.summary is not None else None
    content = {
        **record,
        "answer": {found.evaluator: answer(found) for found in scores},
        "unfinished": unfinished(facts, scores),
        "failures": {one.job.id: one.tail for one in facts.failures},
        "variants": variants,
        "scores": {found.evaluator: _scores(facts, found) for found in scores},
    }
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(content, option=options)


def as_csv(facts: SweepFacts) -> str:
    """Return the report as CSV: a line for each variant, evaluation, family and measure."""
    lines: list[dict[str, Any]] = []
    for variant in facts.variants:
        training = variant.training
        head = {
            "sweep": facts.record.name,
            "variant": variant.record.name,
            "group": variant.record.group,
            "value": variant.record.value,
            "seed": variant.record.seed,
            "train_loss": training.loss if training else None,
            "eval_loss": training.eval_loss if training else None,
            "seconds": variant.seconds,
            "gpu_hours": variant.gpu_hours,
            "cost": variant.cost,
        }
        for one in variant.evaluations:
            place = {"evaluator": one.record.evaluator, "checkpoint": one.record.checkpoint, "step": one.record.step}
            for row in summary_rows(one.summary) if one.summary is not None else ():
                row["folder"] = one.record.folder
                row["score"] = row.pop("value")
                lines.append({**head, **place, **row})
    return comma_separated(lines) + "\n"


def _scores(facts: SweepFacts, found: Scores) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(found, enc_hook=lambda value: str(value.relative_to(facts.folder)))
    return told


def _relative(facts: SweepFacts, summary: dict[str, Any]) -> dict[str, Any]:
    """Return a summary whose folder is told from the sweep's, wherever that lies."""
    return {**summary, "folder": str(Path(summary["folder"]).relative_to(facts.folder))}
