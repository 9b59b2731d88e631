"""The scores of a sweep's variants by one evaluator: estimates, comparisons, the trend, over seeds where there are."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import msgspec

from agent_sft.errors import UserError
from agent_sft.evals.comparison import Comparison, compare, holm
from agent_sft.evals.outcomes import FIRST, SCORE, is_partial
from agent_sft.evals.seeds import GroupEstimate, compare_seeds, estimate_group
from agent_sft.evals.statistics import Estimate, Summary
from agent_sft.report.sweep.facts import Scored, SweepFacts

STEP = "training step"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared: a variant with all its seeds, or a checkpoint of the only variant."""

    name: str
    value: float | str | None
    folders: dict[int, Path]
    """The evaluation of each seed."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """All tasks or those of a family, by one measure."""

    family: str | None
    measure: str
    estimates: list[GroupEstimate]
    """One for each setting."""
    comparison: Comparison | None
    problem: str | None
    """Why there is no comparison."""
    trend_p: float | None
    """Of the trend; of a family corrected by Holm for their number."""


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluator found."""

    evaluator: str
    kind: str
    """Which evaluator it is: `inspect`, `tasks`, `loss`, …"""
    benchmark: str
    tasks: int
    trials: int
    user_model: str | None
    floor: float | None
    varied: str | None
    """What the settings differ in, with its unit."""
    numeric: bool
    """Whether the settings are numbers."""
    baseline: str | None
    settings: list[Setting]
    waiting: list[str]
    """Variants without a whole evaluation, and why."""
    parts: list[Part]
    """All tasks by each measure, then each family."""
    curve: list[Setting]
    """Checkpoints of the variants, where several of each were scored."""

    def part(self, measure: str, family: str | None = None) -> Part | None:
        """Return one part."""
        return next((one for one in self.parts if one.measure == measure and one.family == family), None)

    @property
    def measures(self) -> list[str]:
        """Return the measures, the one that decides first."""
        return list(dict.fromkeys(one.measure for one in self.parts))

    @property
    def families(self) -> list[str]:
        """Return the families of tasks."""
        return list(dict.fromkeys(one.family for one in self.parts if one.family is not None))


def read_scores(facts: SweepFacts) -> list[Scores]:
    """Return what each evaluator of a sweep found, in the order of the sweep file."""
    return [found for name in facts.record.evaluators if (found := _of_evaluator(facts, name)) is not None]


def last_of(evaluations: list[Scored], evaluator: str) -> Scored | None:
    """Return the evaluation that stands for a variant: of the final or best checkpoint, or the last one scored."""
    own = [one for one in evaluations if one.record.evaluator == evaluator]
    named = [one for one in own if one.record.checkpoint in ("final", "best")]
    return max(named or own, key=lambda one: (one.counts, one.record.step or 0), default=None)


def _of_evaluator(facts: SweepFacts, name: str) -> Scores | None:
    waiting = []
    groups: dict[str, Setting] = {}
    some: list[Scored] = []
    for variant in facts.variants:
        one = last_of(variant.evaluations, name)
        if one is None:
            continue
        record = variant.record
        if not one.counts:
            waiting.append(f"{record.name}: {_standing(one)}")
            continue
        some.append(one)
        setting = groups.setdefault(record.group, Setting(name=record.group, value=record.value, folders={}))
        setting.folders[record.seed if record.seed is not None else 0] = one.folder
    curve = _curve(facts, name)
    if not some:
        return None
    settings, varied, baseline = list(groups.values()), facts.record.varied, facts.record.baseline
    if len(settings) == 1 and len(curve) > 1:
        settings, varied, baseline = curve, STEP, curve[0].name
    values = [setting.value for setting in settings]
    numeric = all(isinstance(value, int | float) for value in values)
    if numeric:
        settings.sort(key=lambda setting: float(setting.value or 0))
    head = some[0].summary
    assert head is not None
    partial = any(is_partial(one.trials) for one in some)
    fewest = min(one.evaluation.trials for one in some if one.evaluation is not None)
    measures = [SCORE] if partial else []
    measures += [FIRST, *([f"pass^{fewest}"] if fewest > 1 else [])]
    measures = measures if head.evaluation.evaluator != "loss" else [SCORE]
    known = baseline if baseline in {setting.name for setting in settings} else None
    return Scores(
        evaluator=name,
        kind=head.evaluation.evaluator,
        benchmark=head.evaluation.benchmark,
        tasks=len(head.evaluation.tasks),
        trials=head.evaluation.trials,
        user_model=head.evaluation.user_model,
        floor=head.evaluation.floor,
        varied=varied,
        numeric=numeric,
        baseline=known,
        settings=settings,
        waiting=waiting,
        parts=_parts(settings, known, numeric, measures, [one.summary for one in some if one.summary is not None]),
        curve=curve,
    )


def _standing(one: Scored) -> str:
    if one.problem is not None:
        return one.problem
    if one.state in ("failed", "skipped"):
        return f"its evaluation {'failed' if one.state == 'failed' else 'was skipped'}"
    if one.summary is None:
        return "not scored yet"
    return f"{one.summary.overall.scored:,} of {one.summary.overall.trials:,} trials scored so far"


def _curve(facts: SweepFacts, name: str) -> list[Setting]:
    """Return the checkpoints of the variants, where any has several, in order."""
    found = []
    for variant in facts.variants:
        own = [
            one
            for one in variant.evaluations
            if one.record.evaluator == name and one.record.step is not None and one.counts
        ]
        if len(own) > 1:
            for one in sorted(own, key=lambda one: one.record.step or 0):
                label = (
                    one.record.checkpoint if len(facts.variants) == 1 else f"{variant.record.name} {one.record.step}"
                )
                found.append(
                    Setting(
                        name=label,
                        value=float(one.record.step or 0),
                        folders={variant.record.seed if variant.record.seed is not None else 0: one.folder},
                    )
                )
    return found


def _parts(
    settings: list[Setting], baseline: str | None, numeric: bool, measures: list[str], summaries: list[Summary]
) -> list[Part]:
    families = sorted({str(group.family) for summary in summaries for group in summary.families})
    parts = []
    for measure in measures:
        parts.append(_part(settings, baseline, numeric, measure, None))
        of_families = [_part(settings, baseline, numeric, measure, family) for family in families]
        told = [one.trend_p for one in of_families if one.trend_p is not None]
        corrected = iter(holm(told))
        parts += [
            msgspec.structs.replace(one, trend_p=next(corrected)) if one.trend_p is not None else one
            for one in of_families
        ]
    return parts


def _part(settings: list[Setting], baseline: str | None, numeric: bool, measure: str, family: str | None) -> Part:
    estimates = []
    for setting in settings:
        try:
            estimates.append(estimate_setting(setting, measure, family))
        except UserError:
            empty = Estimate(measure=measure, value=None, low=None, high=None, tasks=0)
            estimates.append(GroupEstimate(group=setting.name, estimate=empty, by_seed={}, crossed=None, trials=None))
    found: Comparison | None = None
    problem: str | None = None
    if len(settings) < 2:
        problem = "there is nothing to compare with"
    else:
        try:
            found = _compared(settings, baseline or settings[0].name, numeric, measure, family)
        except UserError as error:
            problem = str(error)
    trend_p = found.trend.p if found is not None and found.trend is not None else None
    return Part(family=family, measure=measure, estimates=estimates, comparison=found, problem=problem, trend_p=trend_p)


def estimate_setting(setting: Setting, measure: str, family: str | None = None) -> GroupEstimate:
    """Return a setting's mean, over its seeds where there are several.

    Raises:
        UserError: there are no results.
    """
    return estimate_group(setting.name, setting.folders, measure=measure, family=family)


def _compared(settings: list[Setting], baseline: str, numeric: bool, measure: str, family: str | None) -> Comparison:
    """Compare settings: over seeds where all have several, else the models at hand."""
    order = {one.name: Fraction(str(one.value)) for one in settings} if numeric else None
    if order is not None and len(set(order.values())) < 2:
        order = None
    if min(len(one.folders) for one in settings) > 1:
        groups = {one.name: one.folders for one in settings}
        return compare_seeds(groups, baseline=baseline, measure=measure, order=order, family=family)
    folders = {one.name: str(next(iter(one.folders.values()))) for one in settings}
    found = compare(
        list(folders.values()),
        baseline=folders[baseline],
        measure=measure,
        order=list(order.values()) if order is not None else None,
        family=family,
        common_tasks=True,
    )
    return _renamed(found, {folder: name for name, folder in folders.items()}.__getitem__)


def _renamed(found: Comparison, name_of: Callable[[str], str]) -> Comparison:
    """Return a comparison with the settings' names in the place of folders."""
    replace = msgspec.structs.replace
    notes = found.notes
    for variant in found.variants:
        notes = [note.replace(variant.folder, name_of(variant.folder)) for note in notes]
    return replace(
        found,
        baseline=name_of(found.baseline),
        variants=[replace(one, folder=name_of(one.folder)) for one in found.variants],
        differences=[replace(one, variant=name_of(one.variant)) for one in found.differences],
        notes=notes,
    )
