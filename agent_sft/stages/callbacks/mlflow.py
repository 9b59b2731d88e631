"""`mlflow`: MLflow."""

from __future__ import annotations

from agent_sft.stages.callbacks.registry import register_callback
from agent_sft.stages.callbacks.trackers import Tracker


@register_callback("mlflow")
class MLflow(Tracker):
    """MLflow, through the trainer."""

    report_to = "mlflow"
    project_variable = "MLFLOW_EXPERIMENT_NAME"
