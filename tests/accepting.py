"""Asks the real LLaMA-Factory about rows and datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support import run_inside


def ask(python: Path, question: dict[str, Any], scratch: Path) -> Any:
    """Return the answer of `tests/inside/accept_rows.py`; what the engine keeps for later goes to `scratch`."""
    return run_inside(python, "accept_rows.py", question, scratch)
