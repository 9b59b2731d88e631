"""From the user's file to the data that LLaMA-Factory reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent_sft import __version__
from agent_sft.data.formats import openai
from agent_sft.data.preparing import REJECTS_NAME, prepare_dataset
from agent_sft.data.report import PrepareReport
from agent_sft.errors import WorkFailed
from agent_sft.files import digest_file
from agent_sft.runs.directory import Stamp
from agent_sft.stages.outside import open_outside
from agent_sft.stages.plan import TrainingPlan
from agent_sft.stages.process import process_stage, processed_file
from agent_sft.stages.reporting import Reporter
from agent_sft.stages.stage import Stage


def prepare_stage(plan: TrainingPlan, source_digest: str) -> Stage:
    """Return the stage that validates the data and writes `dataset_info.json`."""
    inputs = {
        "data": source_digest,
        "dataset name": plan.dataset,
        "template": plan.arguments["template"],
        "format": plan.config.format,
        "min reward": plan.config.min_reward,
        "agent-sft": __version__,
    }
    if plan.config.eval_dataset is not None:
        inputs["eval data"] = digest_file(plan.config.eval_dataset)
    return Stage("prepare", inputs)


def prepare(plan: TrainingPlan, reporter: Reporter) -> Stamp:
    """Validate the data and write it in LLaMA-Factory's form, unless that is done.

    Raises:
        UserError: no row can be trained on.
        WorkFailed: rows had to be rejected and `--allow-rejects` was not given.
    """
    stage = prepare_stage(plan, source_digest(plan))
    stamp = stage.finished(plan.run) or stage.perform(plan.run, lambda: _make(plan, reporter))
    rejected = sum(stamp.outputs["rejected"].values())
    if rejected and not plan.config.allow_rejects:
        raise WorkFailed(
            f"{rejected} {'row' if rejected == 1 else 'rows'} cannot be trained on: see {plan.data_dir / REJECTS_NAME}",
            fix="mend them, or give --allow-rejects to train on the others",
        )
    return stamp


def source_digest(plan: TrainingPlan) -> str:
    """Return the digest of the file that is prepared."""
    if plan.config.skip_process:
        return digest_file(plan.config.input)
    stamp = process_stage(plan).finished(plan.run)
    return (
        str(stamp.outputs["files"][str(processed_file(plan).relative_to(plan.run.path))]["digest"])
        if stamp
        else "not processed yet"
    )


def _make(plan: TrainingPlan, reporter: Reporter) -> tuple[list[Path], dict[str, Any]]:
    source = plan.config.input if plan.config.skip_process else processed_file(plan)
    sources = {plan.dataset: source}
    if plan.config.eval_dataset is not None:
        sources[f"{plan.dataset}_eval"] = plan.config.eval_dataset
    reports: dict[str, PrepareReport] = {}
    for name, path in sources.items():
        folder = plan.data_dir
        reports[name] = prepare_dataset(
            path,
            name=name,
            folder=folder,
            template=str(plan.arguments["template"]),
            form=_form(plan) if path == source else None,
            min_reward=plan.config.min_reward if path == source else None,
            opener=open_outside,
        )
        for line in reports[name].lines():
            reporter.say(f"prepare: {line}")
    files = sorted({path for report in reports.values() for path in report.files})
    return files, {
        "rows": {name: report.examples for name, report in reports.items()},
        "rejected": {name: report.rows_rejected for name, report in reports.items()},
    }


def _form(plan: TrainingPlan) -> str | None:
    """Return the format of the file that is prepared: what was processed is known."""
    return plan.config.format if plan.config.skip_process else openai.NAME
