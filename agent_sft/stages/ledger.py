"""The last of the data stages: one ledger over all of them, at the top of the run's directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from agent_sft import __version__
from agent_sft.data.account import DatasetRecord, ProcessRecord, Use, account
from agent_sft.data.preparing import REJECTS_NAME, REPORT_NAME
from agent_sft.files import atomic_writer, read_json
from agent_sft.runs.directory import Stamp
from agent_sft.stages.fit import CHANGES_NAME, TABLE_NAME
from agent_sft.stages.held_out import held_out_file
from agent_sft.stages.inputs import digests
from agent_sft.stages.plan import TrainingPlan
from agent_sft.stages.prepare import prepared_trail
from agent_sft.stages.process import processed_file, processed_trail
from agent_sft.stages.reporting import Reporter
from agent_sft.stages.stage import Stage


def ledger_stage(plan: TrainingPlan) -> Stage:
    """Return the stage and all that its outcome depends on: what the stages before it made."""
    stamps = {name: plan.run.stamp(name) for name in ("process", "prepare", "fit")}
    if plan.config.skip_process:
        stamps.pop("process")
    made = {name: _digests(stamp) for name, stamp in stamps.items()}
    held_out = "evaluated on" if plan.held_out else "not used"
    return Stage("ledger", {**made, "held out": held_out, "agent-sft": __version__})


def write_ledger(plan: TrainingPlan, reporter: Reporter) -> Stamp:
    """Write `data_report.json`, `changes.jsonl` and `rejects.jsonl` of the run, unless that is done, and say totals."""
    stage = ledger_stage(plan)
    return stage.done(plan.run, plan.elsewhere) or stage.perform(plan.run, lambda: _make(plan, reporter))


def _digests(stamp: Stamp | None) -> Any:
    return None if stamp is None else {name: entry["digest"] for name, entry in stamp.outputs["files"].items()}


def _make(plan: TrainingPlan, reporter: Reporter) -> tuple[list[Path], dict[str, Any]]:
    folder = plan.run.path
    report, changes, rejects = folder / REPORT_NAME, folder / CHANGES_NAME, folder / REJECTS_NAME
    with (
        atomic_writer(report) as report_file,
        atomic_writer(rejects) as rejects_file,
        atomic_writer(changes) as changes_file,
    ):
        found = account(
            _process_record(plan),
            _dataset_record(plan, plan.dataset, "trained on"),
            _dataset_record(plan, f"{plan.dataset}_eval", "evaluated on") if _evaluates(plan) else None,
            evaluates_held_out=plan.held_out,
            changes=changes_file,
            rejects=rejects_file,
        )
        inputs = digests((*plan.inputs, *plan.eval_inputs))
        content = {"inputs": inputs, **found.as_json()}
        report_file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    for line in found.lines():
        reporter.say(f"data: {line}")
    reporter.say(f"data: every row in {report}, {CHANGES_NAME} and {REJECTS_NAME}")
    promised = {use: found.promised_tokens(use) for use in ("trained on", "evaluated on")}
    return [report, changes, rejects], {"tokens": promised}


def _evaluates(plan: TrainingPlan) -> bool:
    return plan.held_out or bool(plan.eval_inputs)


def _process_record(plan: TrainingPlan) -> ProcessRecord | None:
    if plan.config.skip_process:
        return None
    folder = processed_file(plan).parent
    return ProcessRecord(
        report=folder / REPORT_NAME,
        trail=processed_trail(plan),
        rejects=folder / REJECTS_NAME,
        held_out=held_out_file(plan),
    )


def _dataset_record(plan: TrainingPlan, name: str, use: Use) -> DatasetRecord:
    table = (read_json(plan.fitted_dir / TABLE_NAME) or {}).get(name, {}) if plan.fitted else {}
    return DatasetRecord(
        name=name,
        use=use,
        trail=prepared_trail(plan, name),
        rejects=plan.data_dir / REJECTS_NAME,
        fitted=plan.fitted_dir / CHANGES_NAME if plan.fitted else None,
        tokens=table.get("tokens"),
    )
