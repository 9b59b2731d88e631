"""Where variants fail: by family, by reason, and which conversations are worth a look."""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from agent_sft.evals.results import Trial
from agent_sft.report.sweep.facts import Scored, SweepFacts
from agent_sft.report.sweep.scores import last_of

_NUMBERS = re.compile(r"\b[A-Za-z]?\d[\d.,]*\b")
BY_THEMSELVES = ("done", "user_stop", "agent_stop")
"""Endings that say nothing about why a trial failed."""


class Attempts(msgspec.Struct, frozen=True, kw_only=True):
    """The trials of one setting, over its seeds."""

    group: str
    scored: list[Scored]
    """The evaluation of each seed."""

    @property
    def trials(self) -> list[tuple[Scored, Trial]]:
        """Return all trials that have a score, with where they are."""
        return [(one, trial) for one in self.scored for trial in one.trials if trial.score is not None]


def read_attempts(facts: SweepFacts, evaluator: str) -> list[Attempts]:
    """Return the trials of each setting by an evaluator: those that were scored so far."""
    groups: dict[str, list[Scored]] = {}
    for variant in facts.variants:
        one = last_of(variant.evaluations, evaluator)
        if one is not None and one.summary is not None:
            groups.setdefault(variant.record.group, []).append(one)
    return [Attempts(group=group, scored=scored) for group, scored in groups.items()]


def reasons(trial: Trial) -> list[str]:
    """Return why a trial failed, in the evaluator's words; numbers and ids of the single task are left out."""
    if trial.succeeded or trial.score is None:
        return []
    told = trial.detail.get("explanation") or trial.detail.get("reason")
    found = [part.strip() for part in str(told).split(";")] if told else []
    if trial.ended not in BY_THEMSELVES:
        found.append(f"ended by {trial.ended.replace('_', ' ')}")
    return list(dict.fromkeys(_NUMBERS.sub("…", part)[:120] for part in found if part)) or ["no reason given"]


def by_reason(attempts: list[Attempts]) -> list[tuple[str, list[int]]]:
    """Return each reason with the number of failed trials of each setting that it is given for; the commonest first."""
    counted = [Counter(reason for _, trial in one.trials for reason in reasons(trial)) for one in attempts]
    names = sorted(set().union(*counted), key=lambda name: (-sum(count[name] for count in counted), name))
    return [(name, [count[name] for count in counted]) for name in names]


def by_family(attempts: list[Attempts]) -> list[tuple[str, list[tuple[int, int]]]]:
    """Return each family with the failed trials and all trials of each setting."""
    names = sorted({trial.family for one in attempts for _, trial in one.trials if trial.family is not None})
    rows = []
    for name in names:
        own = [[trial for _, trial in one.trials if trial.family == name] for one in attempts]
        rows.append((name, [(sum(not trial.succeeded for trial in trials), len(trials)) for trials in own]))
    return rows
