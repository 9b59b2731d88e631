"""`swanlab`: SwanLab."""

from __future__ import annotations

from agent_sft.stages.callbacks.registry import register_callback
from agent_sft.stages.callbacks.trackers import Tracker


@register_callback("swanlab")
class SwanLab(Tracker):
    """SwanLab, through the trainer."""

    report_to = "swanlab"
    project_variable = "SWANLAB_PROJECT"
