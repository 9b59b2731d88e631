"""Asks the real LLaMA-Factory about rows and datasets."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).parent / "inside" / "accept_rows.py"


def ask(python: Path, question: dict[str, Any], scratch: Path) -> Any:
    """Return the answer of `tests/inside/accept_rows.py`; what the engine keeps for later goes to `scratch`."""
    done = subprocess.run(
        [python, "-P", PROGRAM],
        input=json.dumps(question),
        env={**os.environ, "HF_HOME": str(scratch), "HF_DATASETS_CACHE": str(scratch), "TOKENIZERS_PARALLELISM": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)
