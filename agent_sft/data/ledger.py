"""The ledger: what became of every row of the input, of every turn and of every character.

Rows are entered one by one as their fate is known, and written to the side, so that the ledger takes the same memory
for any number of them. What was read and added is at the end exactly what was kept, removed, left out and rejected.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Literal

import orjson

from agent_sft.data.amounts import UNITS, Amounts, add_to
from agent_sft.data.conversation import Origin
from agent_sft.data.ranges import RowRanges

IN_MEMORY = 8 * 2**20
"""Bytes of entries that are held before they go to a file."""

SHOWN_REJECTS = 3
"""Reasons that are kept for the terminal; all of them are in the file of rejects."""

INFLOWS = ("read", "added")
OUTFLOWS = ("kept", "removed", "left out", "rejected")
FLOWS = (*INFLOWS, *OUTFLOWS)
"""What came in, in two ways, and then what became of it."""

Ending = Literal["left out", "rejected"]


@dataclass
class Balance:
    """Amounts by what became of them."""

    flows: dict[str, Amounts] = field(default_factory=lambda: {flow: Counter() for flow in FLOWS})

    def add(self, flow: str, amounts: Mapping[str, int]) -> None:
        """Count amounts under one of `FLOWS`."""
        add_to(self.flows[flow], amounts)

    def difference(self) -> dict[str, int]:
        """Return, for each unit, what came in and is not accounted for: zero everywhere in a whole ledger."""
        units = {unit for flow in self.flows.values() for unit in flow}
        into = {unit: sum(self.flows[flow][unit] for flow in INFLOWS) for unit in units}
        out = {unit: sum(self.flows[flow][unit] for flow in OUTFLOWS) for unit in units}
        return {unit: into[unit] - out[unit] for unit in sorted(units)}

    def as_json(self) -> dict[str, dict[str, int]]:
        """Return the amounts by unit, then by what became of them."""
        units = [*UNITS, *sorted({unit for flow in self.flows.values() for unit in flow} - set(UNITS))]
        return {unit: {flow: self.flows[flow][unit] for flow in FLOWS} for unit in units}


@dataclass(frozen=True)
class Change:
    """What a transform did to one row."""

    by: str
    removed: Amounts
    added: Amounts
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return what there is to say, nothing where there is nothing."""
        record = {"by": self.by, **flow_json(self.removed, self.added)}
        return {**record, "notes": list(self.notes)} if self.notes else record


@dataclass
class TransformTally:
    """What a transform did in all."""

    rows: Counter[str] = field(default_factory=Counter)
    """Rows changed, left out, rejected, split; and made, of which no row of the input says where they came from."""
    removed: Amounts = field(default_factory=Counter)
    added: Amounts = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """Return the counts that are not zero."""
        return {"rows": dict(+self.rows), **flow_json(self.removed, self.added)}


@dataclass(frozen=True)
class Taken:
    """What a ledger holds, as it can be sent to another process."""

    flows: Mapping[str, Mapping[str, int]]
    rows: Counter[str]
    parts: Counter[str]
    transforms: Mapping[str, TransformTally]
    first_rejects: list[tuple[Origin, str]]
    unchanged: RowRanges
    entries: bytes
    entered: int


class Ledger:
    """Counts and writes down what becomes of rows."""

    def __init__(self, transforms: Sequence[str] = ()) -> None:
        """Open a ledger.

        Args:
            transforms: the transforms by the names under which changes are entered, in order.
        """
        self.balance = Balance()
        self.rows: Counter[str] = Counter()
        """Rows by fate: those read and made are those kept, split, left out and rejected; `changed` are of the kept."""
        self.parts: Counter[str] = Counter()
        """What became of the parts of rows that were split."""
        self.transforms = {name: TransformTally() for name in transforms}
        self.first_rejects: list[tuple[Origin, str]] = []
        self._unchanged = RowRanges()
        self._entries: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        self._entered = 0

    def read(self, amounts: Mapping[str, int]) -> None:
        """Count a row of the input."""
        self.rows["read"] += 1
        self.balance.add("read", amounts)

    def change(self, change: Change) -> None:
        """Count what a transform did to a row; it is written down when the row's fate is entered."""
        self._flow(self.transforms[change.by], "changed", change)

    def split(self, by: str, origin: Origin) -> None:
        """Count a row, or a part of one, that became several; the fate of each is entered as that of a part."""
        self.transforms[by].rows["split"] += 1
        (self.parts if origin.part else self.rows)["split"] += 1

    def made(self, by: str, amounts: Amounts) -> None:
        """Count a row that a transform brought along."""
        self.rows["made"] += 1
        self._flow(self.transforms[by], "made", Change(by, Counter(), amounts))

    def kept(self, origin: Origin, amounts: Mapping[str, int], changes: Sequence[Change] = ()) -> None:
        """Enter a row that goes on."""
        self.balance.add("kept", amounts)
        self.rows["written"] += 1
        (self.parts if origin.part else self.rows)["kept"] += 1
        self.rows["changed"] += bool(changes) and not origin.part
        if changes or origin.part:
            self._enter(origin, {"fate": "kept", **amounts}, changes)
        else:
            self._unchanged.add(origin.file, origin.row)

    def ended(
        self,
        origin: Origin,
        fate: Ending,
        by: str,
        reason: str,
        amounts: Mapping[str, int],
        changes: Sequence[Change] = (),
    ) -> None:
        """Enter a row that goes no further, what ended it (a transform, or `read`) and why."""
        self.balance.add(fate, amounts)
        if by in self.transforms:
            self.transforms[by].rows[fate] += 1
        (self.parts if origin.part else self.rows)[fate] += 1
        if fate == "rejected" and len(self.first_rejects) < SHOWN_REJECTS:
            self.first_rejects.append((origin, reason))
        self._enter(origin, {"fate": fate, "by": by, "reason": reason, **amounts}, changes)

    def taken(self) -> Taken:
        """Return all that was entered, for another ledger to `add`."""
        self._entries.seek(0)
        return Taken(
            {flow: dict(amounts) for flow, amounts in self.balance.flows.items()},
            self.rows,
            self.parts,
            self.transforms,
            self.first_rejects,
            self._unchanged,
            self._entries.read(),
            self._entered,
        )

    def add(self, taken: Taken) -> None:
        """Enter what another ledger held of rows that come after those entered here."""
        for flow, amounts in taken.flows.items():
            self.balance.add(flow, amounts)
        self.rows.update(taken.rows)
        self.parts.update(taken.parts)
        for name, tally in taken.transforms.items():
            mine = self.transforms[name]
            mine.rows.update(tally.rows)
            mine.removed.update(tally.removed)
            mine.added.update(tally.added)
        self.first_rejects += taken.first_rejects[: SHOWN_REJECTS - len(self.first_rejects)]
        self._unchanged.add_all(taken.unchanged)
        self._entries.write(taken.entries)
        self._entered += taken.entered

    def write(self, stream: IO[bytes], head: Mapping[str, Any]) -> None:
        """Write the ledger as one JSON object: `head`, the totals, and a line for each row that was not just kept.

        Raises:
            AssertionError: the amounts do not add up, which is a fault of this program.
        """
        difference = self.balance.difference()
        assert not any(difference.values()), f"the ledger does not add up: {difference}"
        report = {
            **head,
            "rows": dict(self.rows),
            **({"parts": dict(self.parts)} if self.parts else {}),
            **self.balance.as_json(),
            "transforms": {name: tally.as_json() for name, tally in self.transforms.items()},
            "unchanged": self._unchanged.as_json(),
        }
        stream.write(orjson.dumps(report, option=orjson.OPT_INDENT_2)[:-2])
        stream.write(b',\n  "fates": [')
        for number, line in enumerate(self._lines()):
            stream.write((b",\n    " if number else b"\n    ") + line.rstrip(b"\n"))
        stream.write(b"\n  ]\n}\n" if self._entered else b"]\n}\n")

    def close(self) -> None:
        """Give up what was written to the side."""
        self._entries.close()

    def _flow(self, tally: TransformTally, what: str, change: Change) -> None:
        tally.rows[what] += 1
        add_to(tally.removed, change.removed)
        add_to(tally.added, change.added)
        self.balance.add("removed", change.removed)
        self.balance.add("added", change.added)

    def _enter(self, origin: Origin, fate: Mapping[str, Any], changes: Sequence[Change]) -> None:
        part = {"part": origin.part} if origin.part else {}
        entry = {"file": origin.file, "row": origin.row, **part, **fate}
        if changes:
            entry["changes"] = [change.as_json() for change in changes]
        self._entries.write(encoded(entry))
        self._entered += 1

    def _lines(self) -> Iterator[bytes]:
        self._entries.seek(0)
        yield from self._entries


def encoded(value: Any) -> bytes:
    """Return a value as a line of JSON, whatever texts are in it: half a character is written as its escape."""
    try:
        return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        pass
    try:
        return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return json.dumps(value, default=str).encode() + b"\n"


def flow_json(removed: Amounts, added: Amounts) -> dict[str, dict[str, int]]:
    """Return the amounts that are not zero, of what was removed and what was added."""
    flows = {"removed": removed, "added": added}
    found = {name: {unit: n for unit, n in amounts.items() if n > 0} for name, amounts in flows.items()}
    return {name: amounts for name, amounts in found.items() if amounts}
