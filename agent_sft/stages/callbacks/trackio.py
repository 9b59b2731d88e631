"""`trackio`: Trackio."""

from __future__ import annotations

from typing import Any

from agent_sft.stages.callbacks.registry import register_callback
from agent_sft.stages.callbacks.trackers import Tracker


@register_callback("trackio")
class Trackio(Tracker):
    """Trackio, through the trainer, which tells it of the project itself."""

    report_to = "trackio"

    def variables(self) -> dict[str, str]:
        """Return none."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Return the project."""
        return {"project": self.config.project} if self.config.project else {}
