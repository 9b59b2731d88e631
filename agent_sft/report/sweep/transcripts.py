"""Conversations on the page: one of each variant for a task, beside each other, as many as a page can hold.

Those that failed come first, of every variant and reason in turn; then what other variants did on the same tasks; then
an example of success of each family. What a conversation begins with, the same everywhere, is shown once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from html import escape

import msgspec

from agent_sft.data.conversation import Conversation, Turn
from agent_sft.evals.results import Trial
from agent_sft.report.page import Markup
from agent_sft.report.sweep.conversations import read_conversations
from agent_sft.report.sweep.facts import Scored
from agent_sft.report.sweep.failing import Attempts, reasons

ROOM = 1_800_000
"""Characters of HTML that conversations may take of a page."""
LONGEST_TURN = 3_000
"""Characters of a turn; the rest is in the log."""
MOST_TURNS = 60
BATCH = 64
"""Conversations read at a time."""

ROLES = {"user": "customer", "assistant": "agent", "tool": "tool", "system": "system"}


class Pick(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation to show."""

    task: str
    group: str
    scored: Scored
    trial: Trial
    succeeded: int
    """Of the setting's trials of the task."""
    of: int
    rank: tuple[int, ...]


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown of the conversations."""

    system: list[str]
    """What conversations begin with."""
    tasks: dict[str, list[tuple[Pick, Markup]]]
    """For each task, the conversations of the settings, in their order."""
    left_out: int
    """For which there was no room."""
    unreadable: int
    """That are not where the trials say they are."""


def pick(attempts: list[Attempts]) -> list[Pick]:
    """Return the conversations worth a look, the most telling ones first."""
    picks = []
    # Trials of the same number are alike but for the model: a scripted customer says the same words.
    failing: dict[str, int] = {}
    for one in attempts:
        for _, trial in one.trials:
            if not trial.succeeded:
                failing[trial.task] = min(trial.trial, failing.get(trial.task, trial.trial))
    for number, one in enumerate(attempts):
        by_task: dict[str, list[tuple[Scored, Trial]]] = {}
        for scored, trial in one.trials:
            by_task.setdefault(trial.task, []).append((scored, trial))
        seen: Counter[tuple[str | None, str]] = Counter()
        for order, (task, found) in enumerate(by_task.items()):
            wanted = failing.get(task, 0)
            scored, trial = min(found, key=lambda both: (both[1].succeeded, both[1].trial != wanted, both[1].trial))
            if trial.succeeded:
                kind = 1 if task in failing else 2
                key = (trial.family, "")
            else:
                kind, key = 0, (trial.family, reasons(trial)[0])
            seen[key] += 1
            if kind == 2 and seen[key] > 1:
                continue
            succeeded = sum(trial.succeeded for _, trial in found)
            picks.append(
                Pick(
                    task=task,
                    group=one.group,
                    scored=scored,
                    trial=trial,
                    succeeded=succeeded,
                    of=len(found),
                    rank=(kind, seen[key], order, number),
                )
            )
    return sorted(picks, key=lambda one: one.rank)


def show(attempts: list[Attempts], room: int = ROOM) -> Shown:
    """Return the conversations of an evaluator's trials that there is room for."""
    picks = pick(attempts)
    shown: dict[str, dict[str, tuple[Pick, Markup]]] = {}
    systems: dict[str, None] = {}
    used = unreadable = taken = 0
    for start in range(0, len(picks), BATCH):
        if used >= room:
            break
        batch = picks[start : start + BATCH]
        for one, conversation in _read(batch):
            taken += 1
            if conversation is None:
                unreadable += 1
                continue
            markup = as_html(conversation)
            if used + len(markup) > room:
                used = room
                taken -= 1
                break
            used += len(markup)
            if conversation.system:
                systems.setdefault(conversation.system)
            shown.setdefault(one.task, {})[one.group] = (one, markup)
    order = {one.group: number for number, one in enumerate(attempts)}
    return Shown(
        system=[text[:LONGEST_TURN] for text in list(systems)[:3]],
        tasks={
            task: sorted(by.values(), key=lambda both: order[both[0].group]) for task, by in _in_order(attempts, shown)
        },
        left_out=len(picks) - taken,
        unreadable=unreadable,
    )


def as_html(conversation: Conversation) -> Markup:
    """Return a conversation as a list of turns; what was called, and with what, stands as a call."""
    turns = conversation.turns
    lines = [line for turn in turns[:MOST_TURNS] for line in _lines(turn)]
    if len(turns) > MOST_TURNS:
        lines.append(f'<li class="s">{len(turns) - MOST_TURNS} further turns are in the log</li>')
    return Markup(f"<ol>{''.join(lines)}</ol>")


def _lines(turn: Turn) -> Iterator[str]:
    role = ROLES[turn.role]
    if turn.text:
        yield f'<li class="{role[0]}"><b>{role}</b> {_cut(turn.text)}</li>'
    for call in turn.calls:
        arguments = call.arguments if isinstance(call.arguments, dict) else {"": call.arguments}
        told = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())
        yield f'<li class="a"><b>agent calls</b> <code>{_cut(f"{call.name}({told})")}</code></li>'


def _cut(text: str) -> str:
    if len(text) <= LONGEST_TURN:
        return escape(text, quote=False)
    return f"{escape(text[:LONGEST_TURN], quote=False)} <i>… {len(text) - LONGEST_TURN:,} more characters</i>"


def _read(batch: list[Pick]) -> Iterator[tuple[Pick, Conversation | None]]:
    by_folder: dict[str, list[Pick]] = {}
    for one in batch:
        by_folder.setdefault(str(one.scored.folder), []).append(one)
    found = {
        (folder, *place): conversation
        for folder, picks in by_folder.items()
        for place, conversation in read_conversations(picks[0].scored.folder, [one.trial for one in picks]).items()
    }
    for one in batch:
        yield one, found.get((str(one.scored.folder), *one.trial.place))


def _in_order(
    attempts: list[Attempts], shown: dict[str, dict[str, tuple[Pick, Markup]]]
) -> list[tuple[str, dict[str, tuple[Pick, Markup]]]]:
    """Return the tasks that are shown in the benchmark's order."""
    tasks = dict.fromkeys(trial.task for one in attempts for _, trial in one.trials)
    return [(task, shown[task]) for task in tasks if task in shown]
