"""What trainings by DeepSpeed share when they are forked: what others do (`imported.py`), and DeepSpeed."""

import importlib

from imported import begin as begin
from imported import import_for


def import_engine() -> None:
    """Import what is shared."""
    import_for({"report_to": "none", "deepspeed": "any"})
    importlib.import_module("deepspeed")
