"""What of a sweep's folder nothing needs any more."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent_sft.report.sweep.record import SweepRecord, VariantRecord, read_record
from agent_sft.sweep.pruning import size_of, superfluous


@dataclass(frozen=True)
class Part:
    """Something that can go."""

    path: Path
    why: str
    bytes: int


def cleanable(folder: Path) -> list[Part]:
    """Return what can go: what was set aside, checkpoints that the rule does not keep, logs of servers and retries.

    Args:
        folder: of a sweep that nobody runs.

    Raises:
        UserError: no sweep is there.
    """
    record = read_record(folder)
    found = [*_set_aside(folder), *_checkpoints(folder, record), *_logs(folder, record)]
    return [Part(path, why, size_of(path)) for path, why in found]


def delete(parts: list[Part]) -> None:
    """Delete them."""
    for part in parts:
        if part.path.is_dir():
            shutil.rmtree(part.path, ignore_errors=True)
        else:
            part.path.unlink(missing_ok=True)


def finished_variants(record: SweepRecord) -> list[VariantRecord]:
    """Return the variants of which everything is done."""
    state = {job.id: job.state for job in record.jobs}
    return [
        variant
        for variant in record.variants
        if all(state[name] == "done" for name in [variant.train_job, *(one.job for one in variant.evaluations)] if name)
    ]


def scored_steps(variant: VariantRecord) -> set[int]:
    """Return the steps of a variant's checkpoints that are scored."""
    return {one.step for one in variant.evaluations if one.step is not None}


def _set_aside(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.rglob("set-aside")):
        if path.is_dir() and "set-aside" not in path.parent.relative_to(folder).parts:
            yield path, "set aside"


def _checkpoints(folder: Path, record: SweepRecord) -> Iterator[tuple[Path, str]]:
    keep = record.settings.get("keep", "scored")
    for variant in finished_variants(record):
        if variant.run is not None:
            for path in superfluous(folder / variant.run, keep, scored_steps(variant)):
                yield path, f"checkpoint of a finished variant, keep: {keep}"


def _logs(folder: Path, record: SweepRecord) -> Iterator[tuple[Path, str]]:
    servers = folder / "servers"
    yield from ((path, "log of a server") for path in sorted(servers.iterdir() if servers.is_dir() else ()))
    last = {str(folder / job.log) for job in record.jobs if job.log}
    for path in sorted((folder / "jobs").glob("*/*.log")):
        if str(path) not in last:
            yield path, "log of an earlier attempt"
