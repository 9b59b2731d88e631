"""What a sweep found, in sentences that are never stronger than its numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent_sft.evals.comparison import SURE, Comparison, Difference, Trend
from agent_sft.report.numbers import counted, p_value, places_for, plain, signed
from agent_sft.report.sweep.scores import Part, Scores

SEEN = 0.005
"""A change that is smaller is none in the two places that are shown."""
_UNIT = re.compile(r"(?P<name>.+?)\s*(?:\((?P<inside>[^()]+)\)|, (?P<after>\S+))")


def answer(scores: Scores) -> list[str]:
    """Return what an evaluator found: of all tasks first, then of the families, what is told before the rest."""
    first = scores.measures[0]
    lead = scores.part(first)
    assert lead is not None
    sentences = [_so_far(scores) + _sentence(scores, lead)]
    for measure in scores.measures[1:]:
        part = scores.part(measure)
        if part is not None and part.comparison is not None:
            sentences.append(_sentence(scores, part))
    families = [part for name in scores.families if (part := scores.part(first, name)) is not None]
    if len(families) > 1 and lead.comparison is not None:
        sure = [part.trend_p is None or part.trend_p >= SURE for part in families]
        ordered = [part for _, part in sorted(zip(sure, families, strict=True), key=lambda both: both[0])]
        sentences += [_sentence(scores, part, among=len(families)) for part in ordered]
    low = [
        one.group for one in lead.estimates if one.estimate.low is not None and _reaches(scores.floor, one.estimate.low)
    ]
    if low:
        sentences.append(f"{_listed(low)} cannot be told from an agent that does nothing ({scores.floor:.2f}).")
    return sentences


def _reaches(floor: float | None, low: float | None) -> bool:
    return floor is not None and low is not None and low <= floor


def _so_far(scores: Scores) -> str:
    """Return what stands before the answer where variants are missing from it."""
    if not scores.waiting:
        return ""
    there = sum(len(setting.folders) for setting in scores.settings)
    return f"{there:,} of {counted(there + len(scores.waiting), 'variant')} are scored so far. "


def unit_of(varied: str | None) -> tuple[str, str]:
    """Return the name and the unit of what varies: `share (%)` and `share, %` have the unit `%`."""
    match = _UNIT.fullmatch(varied or "")
    if match is None:
        return varied or "the setting", ""
    return match["name"], match["inside"] or match["after"]


def _sentence(scores: Scores, part: Part, among: int = 1) -> str:
    subject = part.measure + (f" on {part.family} tasks" if part.family is not None else "")
    found = part.comparison
    if found is None:
        return _alone(scores, part, subject)
    if _is_tie(found):
        value = found.variants[0].value
        many = f"all {len(found.variants)} variants" if len(found.variants) > 2 else "both variants"
        return f"{subject} is a tie: {value:.2f} in {many}, and no task tells them apart ({_sample(scores, found)})."
    if found.trend is not None:
        return _of_trend(scores, part, subject, found, found.trend, among)
    return _of_differences(scores, subject, found, among)


def _alone(scores: Scores, part: Part, subject: str) -> str:
    one = part.estimates[0].estimate
    if one.value is None:
        return f"{subject} cannot be said: too few trials have a score."
    ends = f" (95 % interval {one.low:.2f} to {one.high:.2f})" if one.low is not None and one.high is not None else ""
    why = f"; it is not compared: {part.problem}" if part.problem is not None else ""
    name = part.estimates[0].group
    return f"{subject} of {name} is {one.value:.2f}{ends} on {counted(one.tasks, 'task')}{why}."


def _is_tie(found: Comparison) -> bool:
    return all(not one.gained and not one.lost for one in found.differences)


def _of_trend(scores: Scores, part: Part, subject: str, found: Comparison, trend: Trend, among: int) -> str:
    name, unit = unit_of(scores.varied)
    space = f" {unit}" if unit else ""
    p = part.trend_p if part.trend_p is not None else trend.p
    first, last = found.variants[0], found.variants[-1]
    low, high = plain(first.setting), plain(last.setting)
    ends = ""
    places = 3
    if trend.low is not None and trend.high is not None:
        places = places_for(trend.high - trend.low)
        ends = f", 95 % interval {signed(trend.low, places)} to {signed(trend.high, places)}"
    holm = f" after Holm for {among} families" if among > 1 else ""
    per = f"per {unit}" if unit else "per unit"
    facts = f"trend {signed(trend.slope, places)} {per}{ends}, p {_equals(p)}{holm}; {_sample(scores, found)}"
    if p >= SURE:
        return (
            f"Whether {subject} changes with “{name}” cannot be told: it is {first.value:.2f} at {low}{space} and "
            f"{last.value:.2f} at {high}{space} ({facts}). {_needed(trend, found)}"
        )
    verb = "falls" if trend.slope < 0 else "rises"
    if (last.value - first.value) * trend.slope > 0:
        change = f"{verb} from {first.value:.2f} to {last.value:.2f}"
    else:
        change = f"{verb} on the whole, from {first.value:.2f} to {last.value:.2f} at the ends"
    return f"{subject} {change} as “{name}” rises from {low} to {high}{space} ({facts}).{_cautious([trend])}"


def _of_differences(scores: Scores, subject: str, found: Comparison, among: int) -> str:
    base = next(one for one in found.variants if one.folder == found.baseline)
    # A family is one of several chances to find something: what is told of it must stand for all of them.
    told = [one for one in found.differences if one.p_corrected * among < SURE]
    several = len(found.differences) > 1
    if not told:
        largest = max(found.differences, key=lambda one: abs(one.value))
        others = "none of the others can" if several else f"{largest.variant} cannot"
        most = f"the largest difference is that of {largest.variant}, " if several else "the difference is "
        return (
            f"{subject}: {others} be told from {base.folder} ({base.value:.2f}); {most}"
            f"{_difference(largest, several, among)}; {_sample(scores, found)}. {_needed(largest, found)}"
        )
    ordered = sorted(told, key=lambda one: -one.value)
    parts = [
        f"{one.variant} is {'better' if one.value > 0 else 'worse'} ({_difference(one, several, among)})"
        for one in ordered
    ]
    rest = [one.variant for one in found.differences if one not in told]
    open_ = f"; {_listed(rest)} cannot be told from it" if rest else ""
    head = f"{subject}: against {base.folder} ({base.value:.2f}), {_listed(parts)}{open_}"
    return f"{head}; {_sample(scores, found)}.{_cautious(told)}"


def _difference(one: Difference, several: bool, among: int) -> str:
    ends = ""
    if one.low is not None and one.high is not None:
        ends = f", 95 % interval {signed(one.low, 2)} to {signed(one.high, 2)}"
    p = min(1.0, one.p_corrected * among)
    corrected = " corrected" if several or among > 1 else ""
    return f"{signed(one.value, 2)}{ends}, p {_equals(p)}{corrected}"


def _needed(one: Trend | Difference, found: Comparison) -> str:
    """Return what it would take to tell; of what is as good as nothing, what the interval leaves room for."""
    settings = [variant.setting or 0.0 for variant in found.variants]
    reach = max(settings) - min(settings) if isinstance(one, Trend) else 1.0
    change = abs(one.slope if isinstance(one, Trend) else one.value) * reach
    if change < SEEN:
        if one.low is None or one.high is None:
            return "There is no change to speak of."
        room = f"{signed(max(-1.0, one.low * reach), 2)} to {signed(min(1.0, one.high * reach), 2)}"
        return f"There is no change to speak of; the interval leaves room for one of {room}."
    if one.tasks_needed is None:
        more = "more training seeds are needed" if found.seeds > 1 else "it is too small"
        return f"No number of tasks would tell a change of this size: {more}."
    if one.tasks_needed <= found.tasks:
        return "As many tasks would tell a change of this size four times in five: it is close."
    return f"It would take about {one.tasks_needed:,} tasks to tell a change of this size four times in five."


def _cautious(told: Sequence[Trend | Difference]) -> str:
    """Return what must be known where an interval reaches 0 and the test still tells."""
    if any(one.low is not None and one.high is not None and one.low <= 0 <= one.high for one in told):
        return " Intervals near 0 and 1 are wide by construction: where one reaches 0 beside a small p, p decides."
    return ""


def _sample(scores: Scores, found: Comparison) -> str:
    seeds = f"{found.seeds} seeds × " if found.seeds > 1 else ""
    return f"{seeds}{counted(found.tasks, 'task')} × {counted(scores.trials, 'trial')}"


def _equals(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
