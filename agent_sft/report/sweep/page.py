"""The page of a sweep: one HTML file that tells everything without scripts and fetches nothing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from html import escape
from typing import Any

import yaml

from agent_sft.report.numbers import counted, moment
from agent_sft.report.page import Markup, page, table
from agent_sft.report.sweep import failure_tables, making, tables
from agent_sft.report.sweep.answer import answer
from agent_sft.report.sweep.drawing import curve_figure, loss_figures, score_figures
from agent_sft.report.sweep.facts import Failure, SweepFacts
from agent_sft.report.sweep.failing import read_attempts
from agent_sft.report.sweep.look import SCRIPT, STYLE
from agent_sft.report.sweep.scores import Scores
from agent_sft.report.sweep.showing import as_pre, conversations
from agent_sft.report.sweep.standing import standing, unfinished
from agent_sft.report.sweep.transcripts import show
from agent_sft.report.tables import Table

_TOGETHER = re.compile(r" (?=%|=|&lt; 0)|(?<=[×=]) |(?<=&lt;) (?=0)")
_INTERVAL = re.compile(r" (\[[^\[\]]*\])$")


def sweep_page(facts: SweepFacts, scores: Sequence[Scores], *, viewer: bool, why_not: str | None = None) -> str:
    """Return the page.

    Args:
        facts: of the sweep.
        scores: what each evaluator found.
        viewer: whether Inspect's own viewer lies beside the page.
        why_not: why it does not, where that was asked for and failed.
    """
    record = facts.record
    sections = (
        ("answer", "The answer", _answer(facts, scores)),
        ("scores", "Scores", _scores(facts, scores)),
        ("variants", "Variants", _variants(facts, scores)),
        ("comparison", "Comparison", _comparison(scores)),
        ("losses", "Losses", loss_figures(facts) or ""),
        ("failures", "Where it fails", _failures(facts, scores, viewer, why_not)),
        ("made", "How it was made", _made(facts)),
    )
    there = [one for one in sections if one[2]]
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in there)
    question = f'<p class="question">{escape(record.question)}</p>' if record.question else ""
    state = "".join(f"<li>{escape(fact)}</li>" for fact in standing(facts))
    body = [
        '<a class="skip" href="#answer">to the answer</a>',
        f'{question}<ul class="facts">{state}</ul>',
        f'<nav aria-label="sections"><ul>{links}</ul></nav>',
        *(f'<section id="{name}"><h2>{title}</h2>\n{content}</section>' for name, title, content in there),
    ]
    return page(record.name, body, foot=_foot(facts, viewer), style=STYLE, script=SCRIPT)


def _answer(facts: SweepFacts, scores: Sequence[Scores]) -> str:
    parts = []
    for number, found in enumerate(scores):
        first, *further = answer(found)
        if number:
            parts.append(f"<h3>{escape(found.evaluator)}</h3>")
        parts.append(f'<p class="{"answer" if not number else ""}">{_kept_together(first)}</p>')
        parts.append(_list(further, "further"))
    if not scores:
        parts.append('<p class="answer">Nothing has been scored yet.</p>')
    lacking = unfinished(facts, scores)
    if lacking:
        parts.append(f'<div class="warn">{_list(lacking, "further")}</div>')
    parts += [_failed(failure) for failure in facts.failures]
    return "\n".join(parts)


def _failed(failure: Failure) -> str:
    job = failure.job
    tries = f" after {job.attempts:,} tries" if job.attempts > 1 else ""
    reason = f": {escape(job.reason)}" if job.reason else ""
    log = f"<p>The end of <code>{escape(job.log)}</code>:</p>" if job.log and failure.tail else ""
    tail = as_pre("\n".join(failure.tail)) if failure.tail else ""
    return f'<div class="warn"><p><strong>{escape(job.id)} failed{tries}</strong>{reason}</p>{log}{tail}</div>'


def _scores(facts: SweepFacts, scores: Sequence[Scores]) -> str:
    parts: list[str] = []
    for found in scores:
        if found.kind == "loss" and len(scores) > 1:
            continue  # A single number of each variant: it stands in the table.
        who = f", customer: {found.user_model}" if found.user_model else ""
        sample = f"{counted(found.tasks, 'task')} × {counted(found.trials, 'trial')}"
        parts.append(_head(found, scores))
        parts.append(f'<p class="soft">{escape(found.benchmark)}: {sample}{escape(who)}</p>')
        parts += [score_figures(found), curve_figure(facts, found) or ""]
    return "\n".join(parts)


def _variants(facts: SweepFacts, scores: Sequence[Scores]) -> str:
    everything = [
        f"<details><summary>everything that {escape(found.evaluator)} measured</summary>"
        f"{_table(tables.measures_table(found, facts))}</details>"
        for found in scores
    ]
    return _table(tables.variants_table(facts, scores)) + "".join(everything)


def _comparison(scores: Sequence[Scores]) -> str:
    parts = []
    for found in scores:
        own = [tables.trends_table(found)]
        folded = []
        for measure in found.measures:
            lead = found.part(measure)
            own.append(tables.comparison_table(found, lead) if lead is not None else None)
            families = [part for name in found.families if (part := found.part(measure, name)) is not None]
            inner = [made for part in families if (made := tables.comparison_table(found, part)) is not None]
            if len(inner) > 1:
                shown = "".join(map(_table, inner))
                folded.append(f"<details><summary>{escape(measure)} by family</summary>{shown}</details>")
        own += [tables.seeds_table(found, measure) for measure in found.measures]
        there = [one for one in own if one is not None]
        if there:
            parts += [_head(found, scores), *map(_table, there), *folded]
    return "\n".join(parts)


def _failures(facts: SweepFacts, scores: Sequence[Scores], viewer: bool, why_not: str | None) -> str:
    parts: list[str] = []
    for found in scores:
        attempts = read_attempts(facts, found.evaluator)
        if found.kind == "loss" or not attempts:
            continue
        parts.append(_head(found, scores))
        made = (failure_tables.family_table(attempts), failure_tables.reason_table(attempts))
        parts += [_table(one) for one in made if one is not None]
        parts.append(conversations(show(attempts), [one.group for one in attempts]))
    if viewer and parts:
        link = '<a href="viewer/index.html">All conversations in Inspect\'s own viewer</a>'
        parts.append(
            f"<p>{link}, through a web server: <code>python3 -m http.server</code> in the report's folder.</p>"
        )
    if why_not is not None:
        parts.append(f'<p class="soft">Inspect\'s own viewer is not beside this page: {escape(why_not)}.</p>')
    return "\n".join(parts)


def _made(facts: SweepFacts) -> str:
    record = facts.record
    place = f"cd {shlex.quote(record.folder)}\n" if record.folder else ""
    parts = [f"<h3>Command</h3>{as_pre(place + shlex.join(record.command))}"]
    data = making.data_table(facts)
    if data is not None:
        parts.append(f'<h3>Data</h3><div class="loose">{_table(data)}</div>')
    parts.append(
        f'<h3>Machine and versions</h3><div class="loose narrow">{_table(making.made_with_table(facts))}</div>'
    )
    parts.append(f'<h3>Jobs</h3><div class="loose">{_table(making.jobs_table(facts))}</div>')
    parts.append(f"<h3>Settings</h3>{_settings('the sweep file, resolved', record.settings)}")
    parts += [
        _settings(f"LLaMA-Factory's settings of {one.record.name}", one.training.arguments)
        for one in facts.variants
        if one.training is not None and one.training.arguments
    ]
    return "\n".join(parts)


def _head(found: Scores, scores: Sequence[Scores]) -> str:
    """Return the evaluator's name as a heading where there are several."""
    return f"<h3>{escape(found.evaluator)}</h3>" if len(scores) > 1 else ""


def _settings(title: str, value: dict[str, Any]) -> str:
    told = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
    return f"<details><summary>{escape(title)}</summary>{as_pre(told)}</details>"


def _foot(facts: SweepFacts, viewer: bool) -> str:
    links = ['<a href="report.md">Markdown</a>', '<a href="report.json">JSON</a>', '<a href="report.csv">CSV</a>']
    if viewer:
        links.append('<a href="viewer/index.html">Inspect\'s viewer</a>')
    return f"<footer><p>The same numbers: {', '.join(links)}. As of {moment(facts.record.updated)}.</p></footer>"


def _list(lines: Sequence[str], kind: str) -> str:
    listed = "".join(f"<li>{_kept_together(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{listed}</ul>' if lines else ""


def _kept_together(sentence: str) -> str:
    """Return a sentence as HTML, numbers not parted from what belongs to them at the end of a line."""
    return _TOGETHER.sub("\u00a0", escape(sentence))


def _table(found: Table) -> str:
    """Return a table, intervals on a line of their own below their value, with its notes."""
    rows = [[row[0], *(_cell(cell) for cell in row[1:])] for row in found.rows]
    header = found.columns if any(found.columns) else ()
    return table(header, rows, found.title) + _list(found.notes, "soft notes")


def _cell(cell: str) -> str:
    match = _INTERVAL.search(cell)
    if match is None:
        return cell
    return Markup(f"{escape(cell[: match.start()])}<small>{escape(match[1])}</small>")
