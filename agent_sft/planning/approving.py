"""The two approvals: of the plan with its costs, and of the candidate that goes on. Each is of one content alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from agent_sft.planning.folder import PlanFolder
from agent_sft.report.plan.record import PlanRecord, Scoreboard, read_record, write_record
from agent_sft.runs.directory import now

Gate = Literal["plan", "promotion"]
By = Literal["the question", "--yes", "a command"]


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What was approved, when, and how."""

    gate: Gate
    of: str
    """The fingerprint of what was shown."""
    candidate: int | None
    """The one that goes on; None for the plan."""
    at: str
    by: By


@dataclass(frozen=True)
class Grants:
    """What the user has approved by the command itself."""

    everything: bool = False
    """`--yes`."""
    plan: bool = False
    """The plan that was written down, if it is still the same."""
    promotion: bool = False
    candidate: int | None = None
    """Which one is promoted; the winner when None."""


class Asker(Protocol):
    """Asks the user, where there is somebody to ask."""

    def plan(self, plan: PlanRecord) -> bool | None:
        """Return whether the plan is approved; None where nobody can be asked."""

    def promotion(self, board: Scoreboard) -> int | bool | None:
        """Return the number of the candidate that goes on, False for none; None where nobody can be asked."""


def read_approval(folder: PlanFolder, gate: Gate) -> Approval | None:
    """Return an approval; None where there is none."""
    return read_record(folder.path, _file(gate), Approval)


def approve(folder: PlanFolder, gate: Gate, of: str, by: By, candidate: int | None = None) -> Approval:
    """Write an approval down."""
    made = Approval(gate=gate, of=of, candidate=candidate, at=now(), by=by)
    write_record(folder.path, _file(gate), made)
    folder.run.record("approved", gate=gate, of=of, by=by, candidate=candidate)
    return made


def _file(gate: Gate) -> str:
    return str(Path("approvals") / f"{gate}.json")
