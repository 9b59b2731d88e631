"""Hides what a training does not use: libraries that LLaMA-Factory stands on import it wherever it is installed.

DeepSpeed takes as long to import as a small model to train, wandb and mlflow a second or two each.
"""

import os
import sys
from typing import Any

TRACKERS = ("wandb", "mlflow")
DEEPSPEED = "deepspeed"


def leave_out(settings: dict[str, Any]) -> None:
    """Hide what these settings of LLaMA-Factory do not name; to be called before LLaMA-Factory is imported."""
    asked = settings.get("report_to", "all")
    reports = {asked} if isinstance(asked, str) else set(asked or ())
    hidden = [name for name in TRACKERS if not {"all", name} & reports]
    if not settings.get("deepspeed") and "ACCELERATE_USE_DEEPSPEED" not in os.environ:
        hidden.append(DEEPSPEED)
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
