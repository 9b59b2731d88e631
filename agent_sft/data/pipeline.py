"""A pipeline: transforms run one after another over rows, and what each did to each row goes into the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agent_sft.config.process import ProcessConfig, read_process
from agent_sft.data.amounts import Amounts, compare, measure, remember_amounts
from agent_sft.data.conversation import Origin
from agent_sft.data.ledger import Change, Ledger
from agent_sft.data.transforms.contract import ORIGIN, Outcome, Row, RowTransform, Transform
from agent_sft.data.transforms.registry import find_transform, make_transform
from agent_sft.data.transforms.running import is_foreign, key_of, run

RAW = "jsonl_to_chat"
"""The transform that takes rows of any shape: where it is the first, rows are not read as conversations."""

OnReject = Callable[[Origin, str, str, Any], None]
"""Gets a row that is rejected: where it came from, by which transform, why, and the row as it was read."""


@dataclass(frozen=True)
class Pipeline:
    """Transforms with their parameters, ready to run once."""

    steps: tuple[tuple[str, Transform], ...]
    """Each by the name that the ledger gives it: its kind, numbered where it stands there several times."""
    takes_raw_rows: bool
    files: tuple[Path, ...] = ()
    """What else it depends on: files named in parameters, and those that hold transforms."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the transforms, in order."""
        return tuple(name for name, _ in self.steps)

    @cached_property
    def is_row_by_row(self) -> bool:
        """Whether what becomes of a row depends on that row alone."""
        return all(vars(type(transform)).get("row_by_row", False) for _, transform in self.steps)

    @property
    def is_built_in(self) -> bool:
        """Whether all transforms are this package's own, which make rows of nothing but JSON values."""
        return not any(map(is_foreign, (transform for _, transform in self.steps)))


@dataclass
class _Known:
    """A row on its way."""

    origin: Origin
    amounts: Amounts
    read: Any
    """As it was read, for the file of rejects."""
    changes: list[Change] = field(default_factory=list)


def load_pipeline(path: Path) -> Pipeline:
    """Read a pipeline from its YAML file.

    Raises:
        UserError: a kind or a parameter is unknown or wrong; with the nearest known name.
    """
    return make_pipeline(read_process(path), where=str(path), folder=path.parent)


def make_pipeline(config: ProcessConfig, *, where: str, folder: Path) -> Pipeline:
    """Return the pipeline that a configuration describes; files in it are relative to `folder`."""
    steps: list[tuple[str, Transform]] = []
    files: list[Path] = []
    kinds = [entry.kind for entry in config.transforms]
    for number, entry in enumerate(config.transforms):
        again = kinds[:number].count(entry.kind)
        name = f"{entry.kind} ({again + 1})" if again else entry.kind
        place = f"{where}, transform {number + 1} ({entry.kind})"
        params = with_paths(entry.kind, entry.params, folder)
        files += [value for value in params.values() if isinstance(value, Path)]
        files += [folder / entry.kind.rpartition(":")[0]] if ".py:" in entry.kind else []
        steps.append((name, make_transform(entry.kind, params, where=place, folder=folder)))
    return Pipeline(tuple(steps), takes_raw_rows=bool(kinds) and kinds[0] == RAW, files=tuple(files))


def run_pipeline(
    pipeline: Pipeline, rows: Iterable[tuple[Origin, Row, Any]], ledger: Ledger, on_reject: OnReject
) -> Iterator[tuple[Origin, Row]]:
    """Yield the rows that come out of a pipeline, without `origin`, each with where it came from.

    Args:
        pipeline: the transforms.
        rows: where each row came from, the row, and the row as it was read, which rejects show.
        ledger: in which all is entered.
        on_reject: called for each row that is rejected.

    Raises:
        UserError: a transform failed, or cannot take such rows; with file, row and kind.
    """
    run = _Run(ledger, on_reject)
    if not pipeline.is_row_by_row:
        return run.through(pipeline, rows)
    # One row at a time to its end: what becomes of it is entered before the next one is read.
    steps = [(name, step) for name, step in pipeline.steps if isinstance(step, RowTransform)]
    if not pipeline.is_built_in or len(steps) < len(pipeline.steps):
        return chain.from_iterable(run.through(pipeline, (row,)) for row in rows)
    return chain.from_iterable(run.straight(steps, row) or run.through(pipeline, (row,)) for row in rows)


class _Run:
    def __init__(self, ledger: Ledger, on_reject: OnReject) -> None:
        self._ledger = ledger
        self._on_reject = on_reject
        self._known: dict[Any, _Known] = {}
        """Rows between the first transform and the last."""
        self._parts: dict[tuple[str, int], int] = {}

    def straight(
        self, steps: Sequence[tuple[str, RowTransform]], given: tuple[Origin, Row, Any]
    ) -> list[tuple[Origin, Row]]:
        """Take a row through that all transforms keep, as they do most, with less ado.

        Return what comes out; nothing, with nothing entered, where `through` has to see to it.
        """
        origin, row, _ = given
        amounts = measure(row)
        changes: list[Change] = []
        row = {**row, ORIGIN: {"file": origin.file, "row": origin.row}}
        for name, transform in steps:
            try:
                outcome = transform.change(row)
            except Exception:  # told with its place by the other way
                return []
            after, notes = (outcome.row, outcome.notes) if isinstance(outcome, Outcome) else (outcome, ())
            if isinstance(outcome, Outcome) and outcome.fate != "kept":
                return []
            if notes or (after is not row and after != row):
                changes.append(Change(name, *compare([row], [after]), notes))
            row = after
        self._ledger.read(amounts)
        for change in changes:
            self._ledger.change(change)
            for unit in amounts:
                amounts[unit] += change.added[unit] - change.removed[unit]
        self._ledger.kept(origin, amounts, changes)
        if changes:
            remember_amounts(row, amounts)
        return [(origin, {key: value for key, value in row.items() if key != ORIGIN})]

    def through(self, pipeline: Pipeline, rows: Iterable[tuple[Origin, Row, Any]]) -> Iterator[tuple[Origin, Row]]:
        stream = self._enter(rows)
        for name, transform in pipeline.steps:
            stream = self._transform(name, transform, stream)
        for row in stream:
            known = self._known.pop(key_of(row))
            self._ledger.kept(known.origin, known.amounts, known.changes)
            yield known.origin, {key: value for key, value in row.items() if key != ORIGIN}

    def _enter(self, rows: Iterable[tuple[Origin, Row, Any]]) -> Iterator[Row]:
        for origin, row, read in rows:
            marked = {**row, ORIGIN: {"file": origin.file, "row": origin.row}}
            amounts = measure(row)
            self._ledger.read(amounts)
            self._known[key_of(marked)] = _Known(origin, amounts, read)
            yield marked

    def _transform(self, name: str, transform: Transform, rows: Iterable[Row]) -> Iterator[Row]:
        made = 0
        for step in run(name, transform, rows):
            if step.before is None:
                for outcome in step.after:
                    made += 1
                    yield from self._made(name, made, outcome)
                continue
            known = self._known.pop(key_of(step.before))
            after = step.after or (Outcome(step.before, "left out", (f"'{name}' did not hand it on",)),)
            self._compare(name, step.before, after, known)
            if len(after) > 1:
                self._ledger.split(name, known.origin)
            for outcome in after:
                row, part = (outcome.row, known) if len(after) == 1 else self._part(outcome.row, known)
                yield from self._pass_on(name, outcome, row, part)

    def _made(self, name: str, number: int, outcome: Outcome) -> Iterator[Row]:
        """Take in a row that a transform brought along: from here on it is a row like any other."""
        origin = Origin(file=f"made by {name}", row=number)
        row = {**outcome.row, ORIGIN: {"file": origin.file, "row": origin.row}}
        amounts = measure(row)
        self._ledger.made(name, amounts)
        yield from self._pass_on(name, outcome, row, _Known(origin, amounts, outcome.row))

    def _pass_on(self, name: str, outcome: Outcome, row: Row, known: _Known) -> Iterator[Row]:
        if outcome.fate == "kept":
            self._known[key_of(row)] = known
            yield row
            return
        reason = "; ".join(outcome.notes)
        self._ledger.ended(known.origin, outcome.fate, name, reason, known.amounts, known.changes)
        if outcome.fate == "rejected":
            self._on_reject(known.origin, name, reason, known.read)

    def _compare(self, name: str, before: Row, after: Sequence[Outcome], known: _Known) -> None:
        notes = tuple(note for outcome in after if outcome.fate == "kept" for note in outcome.notes)
        if len(after) == 1 and not notes and (after[0].row is before or after[0].row == before):
            return
        removed, added = compare([before], [outcome.row for outcome in after])
        change = Change(name, removed, added, notes)
        self._ledger.change(change)
        known.changes.append(change)
        known.amounts = known.amounts + added
        known.amounts.subtract(removed)

    def _part(self, row: Row, known: _Known) -> tuple[Row, _Known]:
        """Return one of several rows that a row became, with a number of its own."""
        place = (known.origin.file, known.origin.row)
        number = self._parts[place] = self._parts.get(place, 0) + 1
        origin = Origin(file=known.origin.file, row=known.origin.row, part=number)
        marked = {**row, ORIGIN: {"file": origin.file, "row": origin.row, "part": number}}
        return marked, _Known(origin, measure(row), known.read, list(known.changes))


def with_paths(kind: str, params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the parameters with files, where a transform takes one, relative to the pipeline's own folder."""
    try:
        config = getattr(find_transform(kind, folder=folder), "Config", None)
    except Exception:  # told with all its words when the transform is made
        return params
    if not (isinstance(config, type) and issubclass(config, BaseModel)):
        return params
    takes_path = {name for name, info in config.model_fields.items() if info.annotation in (Path, Path | None)}
    return {
        name: folder / value if name in takes_path and isinstance(value, str) else value
        for name, value in params.items()
    }
