"""Inspect's own viewer, bundled with the logs of a sweep: a folder of files that any web server can show."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from agent_sft.engines.environments import engine_python
from agent_sft.errors import UserError
from agent_sft.report.sweep.facts import SweepFacts

VIEWER = "viewer"
MOST_BYTES = 500_000_000
"""Logs beyond this are not copied beside the report: the viewer reads them where they are."""


def make_viewer(facts: SweepFacts, place: Path) -> str | None:
    """Bundle the viewer with all logs of Inspect that the sweep has; return why it failed, None where it did not.

    Without logs of Inspect there is nothing to bundle.

    Args:
        facts: of the sweep.
        place: the folder that is made.
    """
    logs = [
        (one.record.folder.replace("/", "."), log)
        for variant in facts.variants
        for one in variant.evaluations
        for log in sorted(one.folder.glob("attempts/*/logs/*.eval"))
    ]
    if not logs:
        return None
    total = sum(log.stat().st_size for _, log in logs)
    if total > MOST_BYTES:
        return f"its logs have {total / 1e9:.1f} GB; inspect view --log-dir shows them where they are"
    try:
        python = engine_python("eval")
    except UserError as error:
        return str(error)
    with tempfile.TemporaryDirectory(prefix="viewer-", dir=facts.folder) as scratch:
        for name, log in logs:
            folder = Path(scratch) / "logs" / name
            folder.mkdir(parents=True, exist_ok=True)
            # Of several attempts' logs, the names tell which is which.
            os.link(log, folder / f"{log.parents[1].name}_{log.name}")
        command = [
            *(str(python), "-m", "inspect_ai", "view", "bundle", "--overwrite"),
            *("--log-dir", str(Path(scratch) / "logs"), "--output-dir", str(place)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return None if done.returncode == 0 else f"inspect view bundle failed: {done.stderr.strip()[-300:]}"
