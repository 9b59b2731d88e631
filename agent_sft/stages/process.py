"""The first stage of a run: the input through a pipeline of transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent_sft import __version__
from agent_sft.data.ahead import Ahead
from agent_sft.data.choosing import choose_pipeline, shipped_pipelines
from agent_sft.data.folders import new_folder
from agent_sft.data.pipeline import Pipeline, load_pipeline
from agent_sft.data.processing import process_data
from agent_sft.data.trail import PROCESS, TRAILS
from agent_sft.errors import WorkFailed
from agent_sft.files import atomic_writer, digest_file
from agent_sft.runs.directory import Stamp
from agent_sft.stages.inputs import digests, names
from agent_sft.stages.outside import open_outside
from agent_sft.stages.plan import TrainingPlan
from agent_sft.stages.reporting import Reporter
from agent_sft.stages.stage import Stage


def process_stage(plan: TrainingPlan) -> Stage:
    """Return the stage that runs the pipeline.

    Raises:
        UserError: the pipeline that was named cannot be used.
    """
    given = plan.config.process
    # Which of those that are shipped is chosen depends on the input alone.
    paths = shipped_pipelines() if given is None else [given, *load_pipeline(given).files]
    inputs = {
        "input": digests(plan.inputs),
        "order of the input": names(plan.inputs),
        "rollouts": [one.name for one in plan.inputs if one.is_rollouts],
        "min reward": plan.config.min_reward,
        "format": plan.config.format,
        "pipeline": {str(path): digest_file(path) for path in paths},
        "agent-sft": __version__,
    }
    return Stage("process", inputs)


def process(plan: TrainingPlan, reporter: Reporter, ahead: Ahead | None = None) -> Stamp:
    """Run the pipeline over the input, unless that is done.

    Args:
        plan: the run.
        reporter: is told what is done.
        ahead: gets what the preparation will make of the rows, if they are processed now.

    Raises:
        UserError: the pipeline or the input cannot be used, or no row is left.
        WorkFailed: rows had to be rejected and `--allow-rejects` was not given.
    """
    stage = process_stage(plan)
    stamp = stage.done(plan.run, plan.elsewhere) or stage.perform(plan.run, lambda: _make(plan, reporter, ahead))
    rejected = stamp.outputs["rejected"]
    if rejected and not plan.config.allow_rejects:
        raise WorkFailed(
            f"{rejected} {'row' if rejected == 1 else 'rows'} cannot be trained on:"
            f" see {plan.run.path / stamp.outputs['rejects']}",
            fix="mend them, or give --allow-rejects to train on the others",
        )
    return stamp


def processed_file(plan: TrainingPlan) -> Path:
    """Return where the processed input goes."""
    return plan.run.path / "processed" / f"{plan.dataset}.jsonl"


def processed_trail(plan: TrainingPlan) -> Path:
    """Return where it goes which row of the input each row that was processed comes from."""
    return plan.run.path / TRAILS / PROCESS


def _make(plan: TrainingPlan, reporter: Reporter, ahead: Ahead | None) -> tuple[list[Path], dict[str, Any]]:
    path, pipeline = _pipeline(plan, reporter)
    trail = processed_trail(plan)
    with new_folder(trail.parent), atomic_writer(trail) as stream:
        report = process_data(
            names(plan.inputs),
            pipeline,
            output=processed_file(plan),
            form=plan.config.format,
            rewards=plan.rewards,
            opener=open_outside,
            described={"pipeline": str(path)},
            trail=stream,
            ahead=ahead,
        )
    for line in report.lines():
        reporter.say(f"process: {line}")
    rejects = report.rejects_path.relative_to(plan.run.path) if report.rejects_path else None
    facts = {
        "held out": report.held_out,
        "rows": dict(report.rows),
        "rejected": report.rejected,
        "rejects": str(rejects) if rejects else None,
    }
    return [*report.files, trail], {"pipeline": str(path), **facts}


def _pipeline(plan: TrainingPlan, reporter: Reporter) -> tuple[Path, Pipeline]:
    if plan.config.process is not None:
        return plan.config.process, load_pipeline(plan.config.process)
    choice = choose_pipeline(names(plan.inputs), form=plan.config.format, opener=open_outside)
    reporter.say(f"process: {choice.path.name}, because {choice.reason} (--process FILE takes another pipeline)")
    return choice.path, load_pipeline(choice.path)
