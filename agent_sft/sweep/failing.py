"""What a job that failed has left to read."""

from __future__ import annotations

import re
import shutil
from datetime import datetime
from pathlib import Path

from agent_sft.sweep.graph import Job, SweepPlan
from agent_sft.sweep.retrying import last_words

FULL_BYTES = 1 << 20
"""With less than this free, a disk counts as full."""


def engine_logs(plan: SweepPlan, job: Job, started: str | None) -> list[Path]:
    """Return what a training's engine wrote since `started`, an ISO time; nothing for other jobs."""
    run = plan.run_of(job)
    if run is None or started is None:
        return []
    since = datetime.fromisoformat(started).timestamp()
    return [log for log in run.glob("attempts/*/train.log") if log.stat().st_mtime >= since]


def no_space_left(folder: Path) -> str | None:
    """Tell that the disk of a folder is full, which no log on it can tell any more; None where it is not."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return None
    if free >= FULL_BYTES:
        return None
    return f"no space left on device: {folder}; free some (`agent-sft sweep clean`), and run the same command again"


def why_failed(log: Path, status: int) -> str:
    """Return in a line why a job failed, by its log or its exit status."""
    lines = last_words(log, 200)
    said = next((line for line in reversed(lines) if line.startswith("error: ")), None)
    if said is not None:
        return said.removeprefix("error: ")
    last = re.sub(r"\s+", " ", lines[-1]) if lines and status <= 128 else ""
    return last or f"exit code {status}"
