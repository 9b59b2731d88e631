"""Conversations as HTML: those of the same task beside each other, each behind a click."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from agent_sft.evals.results import Trial
from agent_sft.report.page import Markup
from agent_sft.report.sweep.failing import reasons
from agent_sft.report.sweep.transcripts import Pick, Shown


def conversations(shown: Shown, groups: list[str]) -> str:
    """Return the conversations, and a choice of two variants to see beside each other."""
    if not shown.tasks:
        return '<p class="soft">The conversations are not there to be shown.</p>' if shown.unreadable else ""
    notes = ["One of each variant for a task, beside each other: the first that failed, where any did."]
    if shown.left_out:
        notes.append(f"{shown.left_out:,} more did not fit on the page; the logs of the evaluations have them.")
    if shown.unreadable:
        notes.append(f"{shown.unreadable:,} could not be read.")
    lines = [f'<h3>Conversations of the same tasks</h3><p class="soft">{" ".join(notes)}</p>']
    lines += [
        f"<details><summary>what the conversations begin with</summary>{as_pre(text)}</details>"
        for text in shown.system
    ]
    if len(groups) > 2:
        lines.append(_chooser(groups))
    lines += [_task(task, found) for task, found in shown.tasks.items()]
    return f"<div>{''.join(lines)}</div>"


def as_pre(content: str) -> str:
    """Return a text as it is, in a block that can be scrolled by the keyboard too."""
    return f'<pre tabindex="0">{escape(content)}</pre>'


def _chooser(groups: list[str]) -> str:
    def choice(label: str) -> str:
        options = "".join(f'<option value="{escape(one, quote=True)}">{escape(one)}</option>' for one in groups)
        return f'<label>{label} <select><option value="">all</option>{options}</select></label>'

    return f'<div class="tools" hidden>{choice("Show")}{choice("beside")}</div>'


def _task(task: str, found: Sequence[tuple[Pick, Markup]]) -> str:
    badges = " · ".join(
        f'<i class="{"good" if one.succeeded == one.of else "bad"}">{escape(one.group)} {one.succeeded}/{one.of}</i>'
        for one, _ in found
    )
    articles = "".join(
        f'<article data-of="{escape(one.group, quote=True)}"><h4>{escape(one.group)}, trial {one.trial.trial + 1}</h4>'
        f"<p>{_verdict(one.trial)}</p>{markup}</article>"
        for one, markup in found
    )
    label = escape(task, quote=True)
    return (
        f'<details class="task"><summary><b>{escape(task)}</b><span>{badges}</span></summary>'
        f'<div class="pair" tabindex="0" role="group" aria-label="{label}">{articles}</div></details>'
    )


def _verdict(trial: Trial) -> str:
    if trial.succeeded:
        return '<span class="good">succeeded</span>'
    told = trial.detail.get("explanation") or trial.detail.get("reason") or "; ".join(reasons(trial))
    return f'<span class="bad">failed</span>: {escape(str(told)[:400])}'
