"""What is known of a sweep: `sweep.json` in its folder, from which the report is made and `status` is told.

The scheduler writes it when something has changed, as often as that takes little of its time; what has happened since
stands in the sweep's journal, and is added by who reads it. Figures are not in it: they are read from the folders it
names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from agent_sft.errors import UserError
from agent_sft.files import write_atomic

RECORD = "sweep.json"
JOURNAL = "events.jsonl"

State = Literal["waiting", "running", "done", "failed", "skipped"]
"""`skipped`: something it needs has failed."""


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How one job stands."""

    id: str
    kind: str
    state: State
    attempts: int = 0
    """How often it was started, earlier runs of the sweep included."""
    started: str | None = None
    """ISO 8601, UTC; of the last attempt."""
    finished: str | None = None
    seconds: float = 0.0
    """Wall time of all its attempts."""
    devices: list[str] = []
    """What it ran on last: `gpu 0`, `gpu 1`, or `cores 2`."""
    gpu_seconds: float = 0.0
    """Of all attempts: wall time times GPUs held."""
    log: str | None = None
    """Its last log, relative to the sweep's folder."""
    reason: str | None = None
    """Why it failed or was skipped, in a line; why it has to run while it waits."""
    command: list[str] = []


class EvaluationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation of one checkpoint of a variant."""

    job: str
    checkpoint: str
    """`final`, `best` or `step-N`."""
    step: int | None
    """Optimizer step of the checkpoint, where that is known."""
    evaluator: str
    folder: str
    """With `evaluation.json` and `results.jsonl`, relative to the sweep's folder."""


class VariantRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One variant."""

    name: str
    group: str
    """The same for all seeds of a variant."""
    value: float | str | None
    seed: int | None
    run: str | None
    """The training's folder, relative to the sweep's; None for a finished model."""
    model: str
    """What is scored."""
    train_job: str | None
    evaluations: list[EvaluationRecord]


class SweepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One sweep."""

    name: str
    question: str | None
    varied: str | None
    """Name and unit of what varies."""
    baseline: str | None
    """A variant's group."""
    evaluators: list[str]
    gpu_price: float | None
    started: str
    updated: str
    finished: str | None
    """When all that can be done was done."""
    command: list[str]
    """What the sweep was started with."""
    folder: str
    """The folder it was started in."""
    settings: dict[str, Any]
    """The resolved sweep file."""
    machine: dict[str, Any]
    """`host`, `platform`, `cores`, `memory_bytes`, `gpus` (names)."""
    versions: dict[str, str]
    """Of agent-sft and of the engines."""
    jobs: list[JobRecord]
    variants: list[VariantRecord]
    events: int | None = None
    """Bytes of the journal that this accounts for; None where that is not known: all of it."""


class Event(msgspec.Struct, frozen=True):
    """What a line of the journal says of a job: `job started`, `job placed`, `job ended` or `job is`."""

    at: str
    event: str
    job: str = ""
    attempt: int = 0
    reason: str | None = None
    devices: list[str] = []
    log: str | None = None
    seconds: float = 0.0
    gpus: int = 0
    state: State = "waiting"


def journal_bytes(folder: Path) -> int:
    """Return the size of the journal of the sweep in a folder."""
    try:
        return (folder / JOURNAL).stat().st_size
    except OSError:
        return 0


def read_record(folder: Path) -> SweepRecord:
    """Return what is known of the sweep in a folder, up to the last line of its journal.

    Raises:
        UserError: there is none, or its record is damaged.
    """
    path = folder / RECORD
    try:
        return _caught_up(folder, msgspec.json.decode(path.read_bytes(), type=SweepRecord))
    except OSError as error:
        fix = f"name the folder of a sweep: it holds a {RECORD}"
        raise UserError("there is no sweep here", where=str(folder), fix=fix) from error
    except msgspec.DecodeError as error:
        raise UserError(f"is damaged: {error}", where=str(path), fix="run the sweep's command again") from error


def write_record(folder: Path, record: SweepRecord) -> None:
    """Write what is known of a sweep, replacing what was known before."""
    write_atomic(folder / RECORD, msgspec.json.format(msgspec.json.encode(record), indent=1).decode())


def _caught_up(folder: Path, record: SweepRecord) -> SweepRecord:
    """Return a record with what has happened since it was written."""
    if record.events is None:
        return record
    jobs = {job.id: job for job in record.jobs}
    changed: dict[str, dict[str, Any]] = {}
    updated = record.updated
    for event in _events_since(folder, record.events):
        known = changed.get(event.job)
        if known is None:
            job = jobs.get(event.job) or JobRecord(id=event.job, kind=event.job.partition("/")[0], state="waiting")
            known = changed[event.job] = msgspec.structs.asdict(job)
        updated = event.at
        if event.event == "job started":
            known.update(state="running", attempts=event.attempt, started=event.at, finished=None)
            known.update(devices=event.devices, log=event.log, reason=event.reason)
        elif event.event == "job placed":
            known["devices"] = event.devices
        elif event.event == "job ended":
            known["finished"] = event.at
            known["seconds"] = round(known["seconds"] + event.seconds, 3)
            known["gpu_seconds"] = round(known["gpu_seconds"] + event.seconds * event.gpus, 3)
        elif event.event == "job is":
            known.update(state=event.state, reason=event.reason)
    jobs |= {name: JobRecord(**fields) for name, fields in changed.items()}
    return msgspec.structs.replace(record, jobs=list(jobs.values()), updated=updated)


def _events_since(folder: Path, place: int) -> Iterator[Event]:
    """Yield what the whole lines of a journal behind a place, in bytes, say of jobs."""
    try:
        with (folder / JOURNAL).open("rb") as stream:
            stream.seek(place)
            content = stream.read()
    except OSError:
        return
    decoder = msgspec.json.Decoder(Event)
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        if b'"event":"job ' in line:
            yield decoder.decode(line)
