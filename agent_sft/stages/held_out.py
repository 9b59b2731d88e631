"""Rows that the pipeline's `split` held out become the evaluation data of the run, unless others were named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agent_sft.data.processing import EVAL_SUFFIX
from agent_sft.engines.llamafactory.arguments import evaluation_arguments
from agent_sft.runs.directory import Stamp
from agent_sft.stages.plan import TrainingPlan
from agent_sft.stages.process import processed_file
from agent_sft.stages.reporting import Reporter


def held_out_file(plan: TrainingPlan) -> Path:
    """Return where the rows go that `split` holds out."""
    path = processed_file(plan)
    return path.with_name(f"{path.stem}{EVAL_SUFFIX}{path.suffix}")


def with_held_out(plan: TrainingPlan, processed: Stamp | None) -> TrainingPlan:
    """Return the plan with what the pipeline held out as its evaluation data, if it did and no other is named.

    Args:
        plan: the run.
        processed: the stamp of its pipeline; None where there is none.
    """
    if not _count(processed) or _other(plan) is not None or not plan.trains_on_input:
        return plan
    arguments = {**evaluation_arguments(plan.config), **plan.arguments, "eval_dataset": f"{plan.dataset}_eval"}
    return replace(plan, arguments=arguments, held_out=True)


def say_what_is_held_out(plan: TrainingPlan, processed: Stamp | None, reporter: Reporter) -> None:
    """Say what becomes of the rows that the pipeline held out."""
    count = _count(processed)
    if plan.held_out:
        reporter.say(f"evaluation: on the {count:,} rows that 'split' held out")
    elif count:
        why = f"{_other(plan)} is given" if _other(plan) else "the data named in --config is trained on"
        reporter.say(f"evaluation: the {count:,} rows that 'split' held out are not used, as {why}")


def _count(processed: Stamp | None) -> int:
    return int(processed.outputs["held out"]) if processed is not None else 0


def _other(plan: TrainingPlan) -> str | None:
    """Return the setting by which other evaluation data was asked for."""
    if plan.held_out:
        return None
    return next((f"--{key.replace('_', '-')}" for key in ("eval_dataset", "val_size") if plan.arguments.get(key)), None)
