"""From a sweep's configuration to all that it will do, touching nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agent_sft.config.sweep import SweepConfig
from agent_sft.errors import UserError, nearest
from agent_sft.runs.directory import check_is_directory
from agent_sft.sweep.checkpoints import check_saved
from agent_sft.sweep.evaluations import evaluators_of
from agent_sft.sweep.graph import Job, SweepPlan, Variant
from agent_sft.sweep.jobs import JobMaker
from agent_sft.sweep.resources import resources_of
from agent_sft.sweep.variants import variants_of

SWEEPS = Path("sweeps")
"""Where sweeps go that do not say where."""


def build_plan(config: SweepConfig, *, source: str | None = None) -> SweepPlan:
    """Resolve a sweep into its variants and jobs.

    Args:
        config: the sweep.
        source: where its keys come from, as messages say it; its name when not given.

    Raises:
        UserError: a file is missing, names collide, an option or evaluator is wrong, or more is wanted than there is.
    """
    source = source or config.name
    out = config.out or SWEEPS / config.name
    check_is_directory(out)
    resources = resources_of(config.resources, source)
    variants = variants_of(config, out, launch=resources.launch, source=source)
    evaluators = evaluators_of(config, source)
    for variant in variants:
        check_saved(config, variant, source)
    baseline = _baseline(config, variants, source)
    varied = config.varied or (next(iter(config.grid)).removeprefix("set.") if len(config.grid) == 1 else None)
    resolved = config.model_copy(update={"out": out, "baseline": baseline, "varied": varied})
    maker = JobMaker(resolved, out, resources, variants, evaluators)
    return SweepPlan(
        config=resolved,
        out=out,
        variants=variants,
        jobs=maker.jobs(),
        evaluators=tuple(one.name for one in evaluators),
        baseline=baseline,
        notes=(*resources.notes, *_seed_notes(config)),
    )


def maker_of(plan: SweepPlan) -> JobMaker:
    """Return what makes the jobs of a plan; it looks at all of its variants once.

    Raises:
        UserError: an evaluator is wrong, or more is wanted than there is.
    """
    source = plan.config.name
    resources = resources_of(plan.config.resources, source)
    return JobMaker(plan.config, plan.out, resources, plan.variants, evaluators_of(plan.config, source))


def with_checkpoints(plan: SweepPlan, variant_name: str, maker: Callable[[], JobMaker] | None = None) -> SweepPlan:
    """Return the plan with the evaluations of a variant as its training's checkpoints are now; the same if they stay.

    Until a variant is trained, a plan with `checkpoints: best` or `every` holds one evaluation for each evaluator in
    their place, whose checkpoint is called `best` or `every`.

    Args:
        plan: the sweep.
        variant_name: that is trained.
        maker: returns what makes the plan's jobs (`maker_of`), where many variants are asked about.

    Raises:
        UserError: the best is asked for, and the training recorded no evaluation loss.
    """
    variant = plan.variant(variant_name)
    if plan.config.checkpoints == "final" and (variant.sft is None or variant.sft.pause_at is None):
        return plan
    made = (maker() if maker is not None else maker_of(plan)).evaluations(variant, trained=True)
    if made == [job for job in plan.of_variant[variant_name] if job.kind in ("score", "evaluate")]:
        return plan
    jobs: list[Job] = []
    for job in plan.jobs:
        if job.variant == variant_name and job.kind in ("score", "evaluate"):
            jobs += made
            made = []
        else:
            jobs.append(job)
    return replace(plan, jobs=tuple(jobs))


def _baseline(config: SweepConfig, variants: tuple[Variant, ...], source: str) -> str | None:
    groups = list(dict.fromkeys(variant.group for variant in variants))
    if config.baseline is None:
        return groups[0]
    if config.baseline not in groups:
        hint = nearest(config.baseline, groups) or f"there are {', '.join(groups)}"
        raise UserError(f"there is no variant '{config.baseline}'", where=f"{source}, baseline", fix=hint)
    return config.baseline


def _seed_notes(config: SweepConfig) -> tuple[str, ...]:
    if len(config.seeds) == 1:
        return ()
    return (f"every variant is trained {len(config.seeds)} times, with the seeds {', '.join(map(str, config.seeds))}",)
