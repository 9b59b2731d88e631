"""From the user's file to the data that LLaMA-Factory reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent_sft import __version__
from agent_sft.data.ahead import Ahead
from agent_sft.data.folders import new_folder
from agent_sft.data.formats import openai
from agent_sft.data.preparing import REJECTS_NAME, prepare_dataset
from agent_sft.data.report import PrepareReport
from agent_sft.data.trail import TRAILS
from agent_sft.errors import WorkFailed
from agent_sft.files import atomic_writer
from agent_sft.runs.directory import Stamp
from agent_sft.stages.held_out import held_out_file
from agent_sft.stages.inputs import digests, names
from agent_sft.stages.outside import open_outside
from agent_sft.stages.plan import TrainingPlan
from agent_sft.stages.process import process_stage, processed_file
from agent_sft.stages.reporting import Reporter
from agent_sft.stages.stage import Stage


def prepare_stage(plan: TrainingPlan) -> Stage:
    """Return the stage that validates the data and writes `dataset_info.json`."""
    inputs = {
        **_sources(plan),
        "dataset name": plan.dataset,
        "template": plan.arguments["template"],
        "format": plan.config.format,
        "agent-sft": __version__,
    }
    if plan.config.skip_process:
        inputs["min reward"] = plan.config.min_reward
        inputs["rollouts"] = [one.name for one in plan.inputs if one.is_rollouts]
        inputs["order of the input"] = names(plan.inputs)
    if plan.capability is not None:
        inputs["capability"] = plan.capability.digest
    return Stage("prepare", inputs)


def prepare(plan: TrainingPlan, reporter: Reporter, ahead: Ahead | None = None) -> Stamp:
    """Validate the data and write it in LLaMA-Factory's form, unless that is done.

    Args:
        plan: the run.
        reporter: is told what is done.
        ahead: what was made of the data already while it was processed.

    Raises:
        UserError: no row can be trained on.
        WorkFailed: rows had to be rejected and `--allow-rejects` was not given.
    """
    stage = prepare_stage(plan)
    stamp = stage.done(plan.run, plan.elsewhere) or stage.perform(plan.run, lambda: _make(plan, reporter, ahead))
    rejected = sum(stamp.outputs["rejected"].values())
    if rejected and not plan.config.allow_rejects:
        raise WorkFailed(
            f"{rejected} {'row' if rejected == 1 else 'rows'} cannot be trained on: see {plan.data_dir / REJECTS_NAME}",
            fix="mend them, or give --allow-rejects to train on the others",
        )
    return stamp


def prepared_trail(plan: TrainingPlan, name: str) -> Path:
    """Return where it goes what became of each row that was prepared for a dataset."""
    return plan.run.path / TRAILS / f"{name}.trail.jsonl"


def _sources(plan: TrainingPlan) -> dict[str, Any]:
    """Return the digests of what is prepared."""
    stamp = None if plan.config.skip_process else process_stage(plan).finished(plan.run)
    made = stamp.outputs["files"] if stamp is not None else {}

    def digest(path: Path) -> str:
        return str(made.get(str(path.relative_to(plan.run.path)), {}).get("digest", "not processed yet"))

    found: dict[str, Any] = {"data": digests(plan.inputs) if plan.config.skip_process else digest(processed_file(plan))}
    if plan.eval_inputs:
        found["eval data"] = digests(plan.eval_inputs)
    elif plan.held_out:
        found["eval data"] = digest(held_out_file(plan))
    return found


def _make(plan: TrainingPlan, reporter: Reporter, ahead: Ahead | None) -> tuple[list[Path], dict[str, Any]]:
    skips = plan.config.skip_process
    processed = openai.NAME  # what was processed is known
    sources: dict[str, tuple[list[str], str | None]] = {
        plan.dataset: (names(plan.inputs), plan.config.format) if skips else ([str(processed_file(plan))], processed)
    }
    if plan.eval_inputs:
        sources[f"{plan.dataset}_eval"] = (names(plan.eval_inputs), None)
    elif plan.held_out:
        sources[f"{plan.dataset}_eval"] = ([str(held_out_file(plan))], processed)
    reports: dict[str, PrepareReport] = {}
    trails = [prepared_trail(plan, name) for name in sources]
    for (name, (given, form)), trail in zip(sources.items(), trails, strict=True):
        with new_folder(trail.parent), atomic_writer(trail) as stream:
            reports[name] = prepare_dataset(
                given,
                name=name,
                folder=plan.data_dir,
                template=str(plan.arguments["template"]),
                form=form,
                rewards=plan.rewards if skips and name == plan.dataset else None,
                opener=open_outside,
                trail=stream,
                ahead=ahead,
                capability=plan.capability,
            )
        for line in reports[name].lines():
            reporter.say(f"prepare: {line}")
    files = sorted({*trails, *(path for report in reports.values() for path in report.files)})
    return files, {
        "rows": {name: report.examples for name, report in reports.items()},
        "rejected": {name: report.rows_rejected for name, report in reports.items()},
    }
