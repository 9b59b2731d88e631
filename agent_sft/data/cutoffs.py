"""What different cutoffs leave of the data, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agent_sft.data.fitting import Counts
from agent_sft.data.overflow import Policy, Window, fit


@dataclass
class CutoffRow:
    """What a cutoff leaves of the data: a line of the table."""

    cutoff: int
    rows_whole: int = 0
    rows_shortened: int = 0
    rows_dropped: int = 0
    examples: int = 0
    pairs_kept: int = 0
    loss_kept: int = 0
    """Tokens with loss where all answers carry it, of the rows that were counted."""


@dataclass
class CutoffTable:
    """What different cutoffs leave of the data."""

    policy: Policy
    lines: list[CutoffRow]
    pairs: int = 0
    """Pairs of all rows."""
    loss: int = 0
    """Tokens with loss where all answers carry it, of the rows that were counted."""
    rows: int = 0
    uncounted: int = 0
    """Rows that are too short to be cut, whose tokens were not counted."""
    longest: int = 0
    """Tokens of the longest row that was counted."""

    @classmethod
    def of(cls, policy: Policy, cutoffs: Iterable[int]) -> CutoffTable:
        """Return an empty table with a line for each cutoff."""
        return cls(policy, [CutoffRow(cutoff) for cutoff in sorted(set(cutoffs))])

    def add(self, counts: Counts, starts: Sequence[int] = (0,)) -> None:
        """Count a row whose tokens are known, all answers with loss; `starts` are those of `fit`."""
        whole = Window(0, len(counts.pairs))
        self.rows += 1
        self.pairs += whole.end
        self.loss += counts.loss_of(whole)
        self.longest = max(self.longest, counts.of(whole))
        for line in self.lines:
            found = fit(counts.pairs, line.cutoff, self.policy, head=counts.head, extra=counts.extra, starts=starts)
            line.rows_whole += found.whole
            line.rows_dropped += not found.windows
            line.rows_shortened += bool(found.windows) and not found.whole
            line.examples += len(found.windows)
            line.pairs_kept += found.kept_pairs
            line.loss_kept += sum(map(counts.loss_of, found.windows))

    def add_short(self, pairs: int) -> None:
        """Count a row that fits at every cutoff of the table."""
        self.rows += 1
        self.uncounted += 1
        self.pairs += pairs
        for line in self.lines:
            line.rows_whole += 1
            line.examples += 1
            line.pairs_kept += pairs

    def header(self) -> list[str]:
        """Return the names of the columns."""
        loss = "loss tokens" if not self.uncounted else "loss tokens of long rows"
        return ["cutoff", "rows whole", "shortened", "dropped", "examples", "turns", loss]

    def cells(self) -> list[list[str]]:
        """Return the lines as text."""
        return [
            [
                f"{line.cutoff:,}",
                f"{line.rows_whole:,}",
                f"{line.rows_shortened:,}",
                f"{line.rows_dropped:,}",
                f"{line.examples:,}",
                _share(2 * line.pairs_kept, 2 * self.pairs),
                _share(line.loss_kept, self.loss),
            ]
            for line in self.lines
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the table for a file."""
        totals = {
            "rows": self.rows,
            "turns": 2 * self.pairs,
            "loss_tokens": self.loss,
            "rows_too_short": self.uncounted,
        }
        return {
            "on_overflow": self.policy,
            **totals,
            "loss_tokens": self.loss,
            "cutoffs": [vars(line) for line in self.lines],
        }


def neighbours(cutoff: int, *, lower: bool) -> list[int]:
    """Return the cutoffs that a table shows: this one, its multiples, and fractions where `lower`."""
    return [*((cutoff // 4, cutoff // 2) if lower else ()), cutoff, 2 * cutoff, 4 * cutoff]


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.0%})" if whole else "0"
