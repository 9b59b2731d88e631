"""The files that a plan tells in: the plan, the scoreboard and the final report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agent_sft import __version__
from agent_sft.files import write_atomic
from agent_sft.planning.folder import PlanFolder
from agent_sft.planning.proposing import Proposal
from agent_sft.report.document import Section, as_markdown, as_page
from agent_sft.report.numbers import duration, money
from agent_sft.report.plan.record import (
    PLAN,
    Deployed,
    Inspection,
    Judgement,
    PlanRecord,
    Scoreboard,
    write_record,
)
from agent_sft.report.plan.telling import Spent, final_sections, plan_sections, scoreboard_sections
from agent_sft.report.sweep.record import read_record

FINAL_REPORT = "final_report"


def write_plan(folder: PlanFolder, plan: PlanRecord, inspection: Inspection) -> list[Path]:
    """Write the plan, for programs and for people; return the files."""
    path = folder.path / "plan.md"
    write_atomic(path, as_markdown(f"Plan {plan.name}", plan_sections(plan, inspection)))
    return [write_record(folder.path, PLAN, plan), path]


def write_scoreboard(folder: PlanFolder, board: Scoreboard, plan: PlanRecord) -> Path:
    """Write the scoreboard for people; return the file."""
    path = folder.path / "scoreboard.md"
    write_atomic(path, as_markdown(f"Candidates of {plan.name}", scoreboard_sections(board, plan)))
    return path


def write_final(
    folder: PlanFolder,
    proposal: Proposal,
    plan: PlanRecord,
    board: Scoreboard,
    judged: Judgement,
    deployed: Deployed | None,
    spent: Mapping[str, Spent],
) -> Path:
    """Write the final report as Markdown and as a page; return the page."""
    sections = final_sections(
        plan, proposal.inspection, board, judged, deployed, spent, _provenance(folder, proposal, judged)
    )
    title = f"{plan.name}: from data to a model"
    write_atomic(folder.path / f"{FINAL_REPORT}.md", as_markdown(title, sections))
    page = folder.path / f"{FINAL_REPORT}.html"
    write_atomic(page, as_page(title, sections))
    return page


def _provenance(folder: PlanFolder, proposal: Proposal, judged: Judgement) -> list[tuple[str, str]]:
    winner = next(one for one in proposal.candidates if one.number == judged.candidate)
    found = [(f"data {name}", digest) for name, digest in proposal.inspection.sources.items()]
    found.append(("model", judged.model))
    found.append(("settings tried in", str(proposal.sweeps.model_of(winner))))
    tried = folder.candidates / "evaluations" / winner.name
    found += [(f"chosen by {path.name}", str(path)) for path in sorted(tried.glob("*/*")) if path.is_dir()]
    for one in judged.models:
        found += [(f"{one.name}, {name}", str(folder.path / place)) for name, place in one.folders.items()]
    record = read_record(folder.final)
    versions = ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items()))
    found += [("made with", versions or f"agent-sft {__version__}"), ("machine", proposal.machine.words)]
    return found


def plan_words(plan: PlanRecord, folder: PlanFolder) -> list[Section]:
    """Return the plan as it is shown where it is asked about."""
    inspection = _inspection(folder)
    return plan_sections(plan, inspection) if inspection is not None else []


def _inspection(folder: PlanFolder) -> Inspection | None:
    from agent_sft.report.plan.record import INSPECTION
    from agent_sft.report.plan.record import read_record as read

    return read(folder.path, INSPECTION, Inspection)


def cost_line(plan: PlanRecord) -> str:
    """Return in a line what the plan takes."""
    unit = "GPU-hours" if plan.on_gpus else "machine-hours"
    price = f", {money(plan.device_hours * plan.gpu_price)} of money" if plan.gpu_price is not None else ""
    return f"about {duration(plan.seconds)}, {plan.device_hours:.3g} {unit}{price}"
