"""What there is of a run, by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent_sft.stages.callbacks.local_logger import METRICS, PREDICTIONS, SUMMARY


def artifacts(run: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and the place of each thing that a run has made so far; `model` where it has one."""
    named = {"metrics": run / METRICS, "summary": run / SUMMARY, "data report": run / "data_report.json"}
    whole = any((run / name).is_file() for name in ("model.safetensors", "adapter_model.safetensors"))
    yield ("model" if whole or any(run.glob("*.safetensors.index.json")) else "run"), run
    for path in sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])):
        yield path.name, path
    for name, path in named.items():
        if path.exists():
            yield name, path
    for path in sorted((run / PREDICTIONS).glob("*.jsonl")):
        yield f"predictions of {path.stem}", path
