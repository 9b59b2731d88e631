"""`wandb`: Weights & Biases."""

from __future__ import annotations

from agent_sft.stages.callbacks.registry import register_callback
from agent_sft.stages.callbacks.trackers import Tracker


@register_callback("wandb")
class WandB(Tracker):
    """Weights & Biases, through the trainer."""

    report_to = "wandb"
    project_variable = "WANDB_PROJECT"
