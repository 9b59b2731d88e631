"""The figures of a sweep's report."""

from __future__ import annotations

from collections.abc import Sequence

from agent_sft.report.charts import (
    Axis,
    Point,
    Series,
    chart,
    figure,
    key,
    loss_axis,
    number_axis,
    rows,
    thinned,
    ticks,
)
from agent_sft.report.page import Markup
from agent_sft.report.sweep.facts import SweepFacts, VariantFacts
from agent_sft.report.sweep.scores import STEP, Part, Scores, Setting, estimate_setting
from agent_sft.report.sweep.tables import value_and_ends


def score_figures(scores: Scores) -> Markup:
    """Return the score against what varies: of all tasks, and of each family."""
    panels = [_panel(scores, None), *(_panel(scores, family) for family in scores.families if len(scores.families) > 1)]
    return Markup(f'<div class="charts">{"".join(panels)}</div>')


def curve_figure(facts: SweepFacts, scores: Scores) -> Markup | None:
    """Return the score over the training steps of each variant, where several checkpoints of each were scored."""
    if not scores.curve or scores.varied == STEP:
        return None
    measure = scores.measures[0]
    groups: dict[str, list[Setting]] = {}
    for setting in scores.curve:
        groups.setdefault(setting.name.rpartition(" ")[0], []).append(setting)
    series, cells = [], []
    for number, (name, settings) in enumerate(groups.items()):
        estimates = [estimate_setting(setting, measure).estimate for setting in settings]
        points = []
        for setting, one in zip(settings, estimates, strict=True):
            if one.value is not None and isinstance(setting.value, float):
                points.append(Point(setting.value, one.value, one.low, one.high, f"{name}, step {setting.value:g}"))
                cells.append([name, f"{setting.value:g}", value_and_ends(one)])
        series.append(Series(name, points, kind=number))
    x = number_axis("optimizer step", [point.x for one in series for point in one.points])
    caption = f"{measure} of the checkpoints, with 95 % intervals over tasks."
    svg = chart(caption, series, x, _share_axis(measure), floor=scores.floor)
    return figure(svg, caption, ("variant", "step", measure), cells, key(series))


def loss_figures(facts: SweepFacts) -> Markup | None:
    """Return the losses of all variants, those of training and of evaluation apart."""
    trained = [one for one in facts.variants if one.training is not None and one.training.losses]
    if not trained:
        return None
    groups = list(dict.fromkeys(one.record.group for one in facts.variants))
    made = [_losses(trained, groups, "training loss", [one.training.losses for one in trained if one.training])]
    evaluated = [one for one in trained if one.training is not None and one.training.eval_losses]
    if evaluated:
        curves = [one.training.eval_losses for one in evaluated if one.training]
        made.append(_losses(evaluated, groups, "evaluation loss", curves))
    return Markup(f'<div class="charts">{"".join(made)}</div>')


def _panel(scores: Scores, family: str | None) -> Markup:
    parts = [part for measure in scores.measures if (part := scores.part(measure, family)) is not None]
    where = f"{family} tasks" if family is not None else "all tasks"
    tasks = max((one.estimate.tasks for one in parts[0].estimates), default=0)
    series = [made for number, part in enumerate(parts) for made in _series(scores, part, number)]
    caption = f"{where[:1].upper()}{where[1:]} ({tasks:,}): {' and '.join(scores.measures)} with 95 % intervals."
    values = [one.value for one in scores.settings]
    if scores.numeric and len(set(values)) > 1:
        x = number_axis(scores.varied or "", [float(value) for value in values if value is not None])
        svg = chart(caption, series, x, _share_axis(where), floor=scores.floor)
    else:
        svg = rows(caption, [one.name for one in scores.settings], series, _share_axis("score"), floor=scores.floor)
        series = [Series(one.name, one.points, one.kind, False, one.faint) for one in series]
    header = ("variant", *(part.measure for part in parts))
    cells = [
        [one.name, *(value_and_ends(part.estimates[number].estimate) for part in parts)]
        for number, one in enumerate(scores.settings)
    ]
    return figure(svg, caption, header, cells, key(series))


def _series(scores: Scores, part: Part, number: int) -> list[Series]:
    """Return the means of the settings and, behind them, those of single seeds."""
    means, single = [], []
    ordered = scores.numeric and len({one.value for one in scores.settings}) > 1
    for place, (setting, one) in enumerate(zip(scores.settings, part.estimates, strict=True)):
        x = float(setting.value) if ordered and setting.value is not None else float(place)
        found = one.estimate
        if found.value is None:
            continue
        means.append(
            Point(x, found.value, found.low, found.high, f"{setting.name}: {part.measure} {value_and_ends(found)}")
        )
        if len(one.by_seed) > 1:
            single += [Point(x, value, label=f"seed {seed}: {value:.3f}") for seed, value in one.by_seed.items()]
    behind = [Series(f"{part.measure}, single seeds", single, number, False, True)] if single else []
    return [*behind, Series(part.measure, means, number, ordered)]


def _share_axis(name: str) -> Axis:
    return Axis(name, 0.0, 1.0, ticks(0.0, 1.0, 5))


def _losses(
    variants: Sequence[VariantFacts], groups: list[str], name: str, curves: Sequence[Sequence[tuple[int, float]]]
) -> Markup:
    series = [
        Series(
            one.record.name,
            [Point(float(step), loss) for step, loss in thinned(curve)],
            kind=groups.index(one.record.group),
            marks=len(curve) <= 12,
        )
        for one, curve in zip(variants, curves, strict=True)
    ]
    x = number_axis("optimizer step", [point.x for one in series for point in one.points], margin=0.02)
    y = loss_axis(f"{name}, nats a token", [point.y for one in series for point in one.points])
    caption = f"{name[:1].upper()}{name[1:]} of {'all variants' if len(series) > 1 else series[0].name}."
    if y.logarithmic:
        caption += " The axis is logarithmic."
    cells = []
    for one, curve in zip(variants, curves, strict=True):
        values = [loss for _, loss in curve]
        told = (f"{value:.4f}" for value in (values[0], min(values), values[-1]))
        cells.append([one.record.name, f"{curve[-1][0]:,}", *told])
    return figure(
        chart(caption, series, x, y), caption, ("variant", "steps", "first", "lowest", "last"), cells, key(series)
    )
