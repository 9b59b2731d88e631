"""What the preparation of a dataset found and did, for people and for a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_sft.data.sharegpt import MERGED, TRIMMED, Example

SHOWN_REJECTS = 3
"""Reasons shown on the terminal; all of them are in the file of rejects."""


@dataclass
class Tally:
    """Counts kept while rows are read."""

    rows_read: int = 0
    rows_kept: int = 0
    rows_left_out: int = 0
    examples: int = 0
    turns_before: int = 0
    turns_after: int = 0
    conversations: Counter[str] = field(default_factory=Counter)
    turns: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    first_rejects: list[tuple[int, str]] = field(default_factory=list)

    def keep(self, examples: Sequence[Example]) -> None:
        """Count a row that is trained on, as one example or, where it was split, as several."""
        self.rows_read += 1
        self.rows_kept += 1
        self.examples += len(examples)
        changes: Counter[str] = Counter()
        for example in examples:
            self.turns_before += example.turns_read
            self.turns_after += len(example.turns)
            changes.update(example.changes)
        self.conversations.update(changes.keys())
        self.turns.update(changes)
        self.notes.update({note for example in examples for note in example.notes})

    def keep_unchanged(self, turns: int) -> None:
        """Count a row of so many turns that is trained on as one example in which nothing was changed."""
        self.rows_read += 1
        self.rows_kept += 1
        self.examples += 1
        self.turns_before += turns
        self.turns_after += turns

    def add(self, other: Tally) -> None:
        """Count what another tally counted of rows that come after those counted here."""
        self.rows_read += other.rows_read
        self.rows_kept += other.rows_kept
        self.rows_left_out += other.rows_left_out
        self.examples += other.examples
        self.turns_before += other.turns_before
        self.turns_after += other.turns_after
        self.conversations.update(other.conversations)
        self.turns.update(other.turns)
        self.notes.update(other.notes)
        self.first_rejects += other.first_rejects[: SHOWN_REJECTS - len(self.first_rejects)]

    def reject(self, number: int, reason: str, *, left_out: bool = False) -> None:
        """Count a row that is not trained on: it cannot be, or it was not wanted."""
        self.rows_read += 1
        self.rows_left_out += left_out
        if not left_out and len(self.first_rejects) < SHOWN_REJECTS:
            self.first_rejects.append((number, reason))


@dataclass(frozen=True)
class Change:
    """What was done to rows that are trained on."""

    conversations: int
    turns: int


@dataclass(frozen=True)
class PrepareReport:
    """What came of a file of rows. Counts of changes are of the rows that are kept."""

    dataset: str
    source: str
    """What was read, as it was given."""
    form: str
    """What its rows are."""
    recognised: bool
    """Whether that was found out from the rows, not given."""
    template: str
    rows_read: int
    rows_kept: int
    rows_left_out: int
    """Rows that could be trained on and were not wanted."""
    examples: int
    """What the data file holds: more than the rows kept where some had to be split."""
    turns_before: int
    turns_after: int
    changes: dict[str, Change]
    notes: dict[str, int]
    """What is worth knowing, and of how many conversations it is true."""
    first_rejects: tuple[tuple[int, str], ...]
    """Row number and reason of the first rejects."""
    data_path: Path
    info_path: Path
    rejects_path: Path
    report_path: Path

    @classmethod
    def from_tally(
        cls,
        tally: Tally,
        *,
        dataset: str,
        source: str,
        template: str,
        form: str,
        recognised: bool,
        **paths: Path,
    ) -> PrepareReport:
        """Return the report of a finished count."""
        return cls(
            dataset=dataset,
            source=source,
            form=form,
            recognised=recognised,
            template=template,
            rows_read=tally.rows_read,
            rows_kept=tally.rows_kept,
            rows_left_out=tally.rows_left_out,
            examples=tally.examples,
            turns_before=tally.turns_before,
            turns_after=tally.turns_after,
            changes={name: Change(count, tally.turns[name]) for name, count in tally.conversations.items()},
            notes=dict(tally.notes),
            first_rejects=tuple(tally.first_rejects),
            **paths,
        )

    @property
    def rows_rejected(self) -> int:
        """Rows that cannot be trained on."""
        return self.rows_read - self.rows_kept - self.rows_left_out

    @property
    def has_rejects(self) -> bool:
        """Whether rows stand in the file of rejects."""
        return self.rows_read > self.rows_kept

    @property
    def merged_conversations(self) -> int:
        """Conversations in which consecutive turns of the same role were joined."""
        return self._change(MERGED).conversations

    @property
    def merged_turns(self) -> int:
        """Turns that were joined to the one before them."""
        return self._change(MERGED).turns

    @property
    def trimmed_conversations(self) -> int:
        """Conversations that ended with turns that nothing answers."""
        return self._change(TRIMMED).conversations

    @property
    def trimmed_turns(self) -> int:
        """Turns at the end that were left off."""
        return self._change(TRIMMED).turns

    @property
    def files(self) -> list[Path]:
        """The files that were made for this dataset alone or hold it among others."""
        files = [self.data_path, self.info_path, self.report_path]
        return [*files, self.rejects_path] if self.has_rejects else files

    def lines(self) -> list[str]:
        """Return what to print, one fact a line."""
        lines = [f"{self.source}: {self.rows_read:,} rows, {self.rows_kept:,} usable, {self.rows_rejected:,} rejected"]
        lines.append(f"read as {self.form}" + (", recognised from the rows" if self.recognised else ""))
        if self.rows_left_out:
            lines.append(f"left out, as asked: {self.rows_left_out:,} rows, listed in {self.rejects_path}")
        if self.examples != self.rows_kept:
            lines.append(f"examples: {self.examples:,}, as conversations were split")
        for name, change in sorted(self.changes.items()):
            turns = "1 turn" if change.turns == 1 else f"{change.turns:,} turns"
            lines.append(f"{name}: {change.conversations:,} conversations, {turns}")
        lines += [f"note: {count:,} conversations {note}" for note, count in sorted(self.notes.items())]
        lines.append(f"total turns: {self.turns_before} -> {self.turns_after}")
        lines.append(f"dataset '{self.dataset}': {self.data_path}")
        if self.rows_rejected:
            lines.append(f"rejects, with reasons: {self.rejects_path}")
            lines += [f"  row {number}: {reason}" for number, reason in self.first_rejects]
            if (more := self.rows_rejected - len(self.first_rejects)) > 0:
                lines.append(f"  and {more:,} more")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return the report for a file."""
        return {
            "source": self.source,
            "format": self.form,
            "template": self.template,
            "rows_read": self.rows_read,
            "rows_kept": self.rows_kept,
            "rows_rejected": self.rows_rejected,
            "rows_left_out": self.rows_left_out,
            "examples": self.examples,
            "turns_before": self.turns_before,
            "turns_after": self.turns_after,
            "changes": {name: vars(change) for name, change in sorted(self.changes.items())},
            "notes": dict(sorted(self.notes.items())),
        }

    def _change(self, name: str) -> Change:
        return self.changes.get(name, Change(0, 0))
