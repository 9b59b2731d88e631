"""How carrying a plan out looks, and where it stands when its command ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent_sft.planning.folder import PlanFolder
from agent_sft.report.plan.record import PlanRecord, Scoreboard, Standing
from agent_sft.stages.reporting import Reporter
from agent_sft.sweep.outside import SweepReporter


@dataclass(frozen=True)
class Outcome:
    """Where a plan stands when its command ends."""

    folder: PlanFolder
    standing: Standing
    reason: str | None = None

    @property
    def exit_code(self) -> int:
        """0 where it is done, or waits for somebody; 1 where it was not to go on."""
        return 1 if self.standing in ("over budget", "failed") else 0


class Halt(Exception):
    """The plan does not go on now.

    Args:
        standing: how it stands.
        reason: why, and what to do.
    """

    def __init__(self, standing: Standing, reason: str) -> None:
        self.standing: Standing = standing
        self.reason = reason
        super().__init__(reason)


class Shown(Protocol):
    """Shows how a plan goes."""

    def say(self, text: str) -> None:
        """Show a line."""

    def phase(self, number: int, title: str) -> None:
        """Show that a phase begins."""

    def plan(self, plan: PlanRecord, folder: PlanFolder) -> None:
        """Show the plan with its costs."""

    def board(self, board: Scoreboard, plan: PlanRecord) -> None:
        """Show the scoreboard."""

    def sweep(self, folder: Path) -> SweepReporter:
        """Return what shows a sweep of the plan."""

    def stages(self) -> Reporter:
        """Return what shows a stage."""
