"""How carrying a plan out ends, for now."""

from __future__ import annotations

from dataclasses import dataclass

from agent_sft.planning.folder import PlanFolder
from agent_sft.report.plan.record import Standing


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
