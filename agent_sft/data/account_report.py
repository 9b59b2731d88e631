"""The totals of a run's ledger: rows, turns, characters and tokens, by what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent_sft.data.amounts import CHARACTERS, TURNS, Amounts
from agent_sft.data.ledger import TransformTally, flow_json
from agent_sft.data.ranges import RowRanges, parse_ranges

ENDS = ("trained on", "evaluated on", "held out", "left out", "rejected", "dropped")
"""What becomes of rows. `held out` is what `split` set apart and nothing uses, `dropped` what the cutoff left
nothing of; what both of them cut off elsewhere is entered as done by `fit`."""
PREPARE, FIT = "prepare", "fit"
"""What steps are called that are no transforms."""
UNITS = (TURNS, CHARACTERS)


@dataclass
class Account:
    """The totals of a run's data."""

    rows: Counter[str] = field(default_factory=Counter)
    """Rows of the input, by `ENDS`; `read`, `made` by transforms, `split` by them, and `changed` of those kept."""
    parts: Counter[str] = field(default_factory=Counter)
    """Parts of the rows that transforms split, by `ENDS`."""
    examples: Counter[str] = field(default_factory=Counter)
    """What LLaMA-Factory reads, by use."""
    came: Amounts = field(default_factory=Counter)
    """What was read."""
    ends: dict[str, Amounts] = field(default_factory=lambda: {end: Counter() for end in ENDS})
    steps: dict[str, TransformTally] = field(default_factory=dict)
    """By transform as the pipeline names it; then `prepare` and `fit`."""
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By dataset."""
    counted: RowRanges = field(default_factory=RowRanges)
    """Rows with examples whose tokens were counted."""
    unchanged: RowRanges = field(default_factory=RowRanges)
    """Rows that are trained or evaluated on as they were, their form apart."""

    def read(self, amounts: Mapping[str, int]) -> None:
        """Count a row of the input."""
        self.rows["read"] += 1
        self.came.update(amounts)

    def end(self, fate: str, amounts: Mapping[str, int]) -> None:
        """Count what a row, or a part of one, holds at its end."""
        self.ends[fate].update({unit: amounts.get(unit, 0) for unit in UNITS})

    def step(self, name: str, added: Amounts, removed: Amounts) -> dict[str, Any]:
        """Count what was done to a row; return the amounts that are not zero, and the `rows` it happened to."""
        totals = self.steps.setdefault(name, TransformTally())
        totals.rows["changed"] += bool(+added or +removed)
        totals.added.update(added)
        totals.removed.update(removed)
        return flow_json(removed, added)

    def take_over(self, report: Mapping[str, Any]) -> None:
        """Take over what a pipeline counted itself: what it read and did, and the rows that it ended."""
        for count, found in ((self.rows, report["rows"]), (self.parts, report.get("parts", {}))):
            count.update({fate: found.get(fate, 0) for fate in ("read", "made", "split", "left out", "rejected")})
        for unit in UNITS:
            self.came[unit] += report[unit]["read"]
            for fate in ("left out", "rejected"):
                self.ends[fate][unit] += report[unit][fate]
        for name, done in report["transforms"].items():
            key = f"{name} (transform)" if name in (PREPARE, FIT) else name
            self.steps[key] = TransformTally(
                Counter(done["rows"]), Counter(done.get("removed", {})), Counter(done.get("added", {}))
            )

    def add_tokens(self, dataset: str, use: str, prepared: int, found: Mapping[str, Any] | None) -> None:
        """Enter the tokens of a dataset: those of the examples that were counted.

        Args:
            dataset: its name.
            use: `trained on` or `evaluated on`.
            prepared: how many examples were prepared, before any was cut.
            found: the tokens by what became of them; None where none were counted.
        """
        counted = sum(1 for _ in parse_ranges(str(found["counted"]))) if found else 0
        amounts = {key: int(found[key]) if found else 0 for key in ("before", "cut", "repeated", "trained")}
        self.tokens[dataset] = {
            "use": use,
            "examples_prepared": prepared,
            "examples_counted": counted,
            "before": amounts["before"],
            "cut": amounts["cut"],
            "repeated": amounts["repeated"],
            "after": amounts["trained"],
        }

    def check(self) -> None:
        """Hold the totals against each other.

        Raises:
            AssertionError: they do not add up, which is a fault of this program.
        """
        for unit in UNITS:
            came = self.came[unit] + sum(_net(step, unit) for step in self.steps.values())
            went = sum(amounts[unit] for amounts in self.ends.values())
            assert came == went, f"{unit}: {came} came in, {went} are accounted for"
        ends = sum(self.rows[end] for end in ENDS) + self.rows["split"]
        assert self.rows["read"] + self.rows["made"] == ends, f"rows: {dict(self.rows)}"
        for name, one in self.tokens.items():
            assert one["before"] - one["cut"] + one["repeated"] == one["after"], f"tokens of {name}: {one}"

    def as_json(self) -> dict[str, Any]:
        """Return the totals for a file."""
        return {
            "rows": dict(+self.rows),
            **({"parts": dict(+self.parts)} if +self.parts else {}),
            "examples": dict(self.examples),
            **{unit: self._unit(unit) for unit in UNITS},
            "tokens": {**self.tokens, "counted": self.counted.as_json()},
            "steps": {name: step.as_json() for name, step in self.steps.items()},
            "unchanged": self.unchanged.as_json(),
        }

    def lines(self) -> list[str]:
        """Return what to print: each total with what it is made of."""
        rows = self.rows
        made = f" + {rows['made']:,} made" if rows["made"] else ""
        ends = [f"{rows[end]:,} {end}" for end in (*ENDS, "split") if rows[end] or end == ENDS[0]]
        said = [f"rows: {rows['read']:,} read{made} = {' + '.join(ends)}; {rows['changed']:,} of them changed"]
        if +self.parts:
            parts = " + ".join(f"{count:,} {end}" for end, count in self.parts.items() if count)
            said.append(f"parts of split rows: {parts}")
        said.append("examples: " + ", ".join(f"{count:,} {use}" for use, count in self.examples.items()))
        for unit in UNITS:
            steps = [f"{done} by {name}" for name, step in self.steps.items() if (done := _shown(step, unit))]
            ends = [f"{found[unit]:,} {end}" for end, found in self.ends.items() if found[unit] or end == ENDS[0]]
            said.append(f"{unit}: {' '.join([f'{self.came[unit]:,} read', *steps])} = {' + '.join(ends)}")
        return [*said, *self._token_lines()]

    def promised_tokens(self, use: str) -> int | None:
        """Return the tokens of the examples of one use; None where not all of them were counted."""
        of_use = [one for one in self.tokens.values() if one["use"] == use]
        known = of_use and all(one["examples_counted"] == one["examples_prepared"] for one in of_use)
        return sum(one["after"] for one in of_use) if known else None

    def _unit(self, unit: str) -> dict[str, Any]:
        return {
            "read": self.came[unit],
            "by": {name: net for name, step in self.steps.items() if (net := _net(step, unit))},
            **{end: found[unit] for end, found in self.ends.items()},
        }

    def _token_lines(self) -> list[str]:
        said = []
        for name, one in self.tokens.items():
            if not one["examples_counted"]:
                why = "all are shorter in bytes than the cutoff: the trainer says how many there are"
                said.append(f"tokens of {name}: not counted, {why}")
                continue
            held_again = f" - {one['repeated']:,} held again" if one["repeated"] else ""
            said.append(
                f"tokens of {name}, counted for {one['examples_counted']:,} of {one['examples_prepared']:,} examples:"
                f" {one['before']:,} = {one['after']:,} {one['use']} + {one['cut']:,} cut{held_again}"
            )
        return said


def _net(step: TransformTally, unit: str) -> int:
    return step.added[unit] - step.removed[unit]


def _shown(step: TransformTally, unit: str) -> str:
    """Return what a step removed and added as terms of a sum; nothing where that is nothing."""
    terms = (("-", step.removed[unit]), ("+", step.added[unit]))
    return " ".join(f"{sign} {count:,}" for sign, count in terms if count)
