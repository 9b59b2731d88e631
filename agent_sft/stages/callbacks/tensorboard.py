"""`tensorboard`: TensorBoard."""

from __future__ import annotations

from agent_sft.stages.callbacks.registry import register_callback
from agent_sft.stages.callbacks.trackers import Tracker


@register_callback("tensorboard")
class TensorBoard(Tracker):
    """TensorBoard, through the trainer."""

    report_to = "tensorboard"
    project_variable = "TENSORBOARD_LOGGING_DIR"
