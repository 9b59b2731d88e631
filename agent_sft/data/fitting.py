"""A prepared row to the examples that are trained on: none too long, each with loss where it is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_sft.data.overflow import Fit, Policy, Window, beginnings, cut_row, fit
from agent_sft.data.supervision import FLAG, Supervise, supervised_pairs

TRIMMED, SPLIT, DROPPED, TOO_LONG = "trimmed", "split", "dropped", "too long"
UNSUPERVISED, SUPERVISED = "left out for want of a turn with loss", "one example for each turn with loss"


@dataclass(frozen=True)
class Fitted:
    """The examples made of a row."""

    rows: tuple[dict[str, Any], ...]
    windows: tuple[Window, ...]
    """The pairs of the row that each of them holds."""
    fate: str | None
    """What was done to it; None where it is trained on as it was."""
    turns: int
    """Turns that it had."""
    turns_kept: int
    """Turns of it that are in any example."""
    tokens: int | None
    """Tokens that it had, where they were counted."""
    tokens_trained: int | None
    """Tokens of all its examples."""
    loss_tokens: int | None
    """Those of them that carry loss."""

    def as_json(self) -> dict[str, Any]:
        """Return what was done, for a list of all rows that something was done to."""
        return {
            "what": self.fate,
            "examples": len(self.rows),
            "turns": self.turns,
            "turns_kept": self.turns_kept,
            "tokens": self.tokens,
            "tokens_trained": self.tokens_trained,
            "loss_tokens": self.loss_tokens,
        }


@dataclass(frozen=True)
class Counts:
    """The tokens of a row (see `overflow.fit`)."""

    pairs: tuple[tuple[int, int], ...]
    head: int = 0
    extra: int = 0
    ends: int = 0
    """Tokens with loss that end an answer and count as the beginning of the next prompt."""
    prompts: bool = False
    """Whether prompts carry loss too (`train_on_prompt`)."""

    def of(self, window: Window) -> int:
        """Return the tokens of the example that a window is."""
        pairs = self.pairs[window.start : window.end]
        return self.extra + sum(map(sum, pairs)) + (self.head if window.start else 0)

    def loss_of(self, window: Window, *, last: bool = False) -> int:
        """Return the tokens with loss of the example that a window is: of all answers, or of the last one."""
        if self.prompts:
            return self.of(window)
        pairs = self.pairs[window.end - 1 if last else window.start : window.end]
        return sum(answer + self.ends for _, answer in pairs)


@dataclass(frozen=True)
class Fitting:
    """How rows become examples."""

    cutoff: int
    """Tokens that an example may have."""
    on_overflow: Policy
    supervise: Supervise
    masked: bool
    """Whether only the last answer of an example carries loss (`mask_history`)."""

    def apply(self, row: Mapping[str, Any], counts: Counts | None) -> Fitted:
        """Return the examples of a row.

        Args:
            row: as it was prepared.
            counts: its tokens; None where it is too short to be cut.
        """
        turns = row["conversations"]
        found = Fit((Window(0, len(turns) // 2),), len(turns) // 2, 0)
        if counts is not None:
            starts = beginnings(turns)
            found = fit(
                counts.pairs, self.cutoff, self.on_overflow, head=counts.head, extra=counts.extra, starts=starts
            )
        kept = self._masked(turns, found.windows) if self.masked else list(found.windows)
        covered = {pair for window in kept for pair in range(window.start, window.end)}
        return Fitted(
            rows=tuple(_plain(cut_row(row, window)) for window in kept),
            windows=tuple(kept),
            fate=self._fate(found, kept),
            turns=len(turns),
            turns_kept=2 * len(covered),
            tokens=None if counts is None else found.tokens,
            tokens_trained=None if counts is None else sum(map(counts.of, kept)),
            loss_tokens=None if counts is None else sum(counts.loss_of(one, last=self.masked) for one in kept),
        )

    def _masked(self, turns: Sequence[Mapping[str, Any]], windows: Sequence[Window]) -> list[Window]:
        """Return, for each answer that carries loss, the window that ends with it."""
        return [
            Window(window.start, window.start + pair + 1)
            for window in windows
            for pair in supervised_pairs(turns[2 * window.start : 2 * window.end], self.supervise)
        ]

    def _fate(self, found: Fit, kept: Sequence[Window]) -> str | None:
        if not found.windows:
            return TOO_LONG if self.on_overflow == "error" else DROPPED
        if not kept:
            return UNSUPERVISED
        if not found.whole:
            return TRIMMED if len(found.windows) == 1 and self.on_overflow == "trim" else SPLIT
        return SUPERVISED if tuple(kept) != found.windows else None


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row without what only concerned us."""
    turns = [{key: value for key, value in turn.items() if key != FLAG} for turn in row["conversations"]]
    return {**row, "conversations": turns}
