"""How LLaMA-Factory's packing will fill its rows, computed beforehand from the conversations' lengths."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

BATCH_ROWS = 1000
"""LLaMA-Factory packs within batches of so many conversations (`preprocessing_batch_size`)."""
SAMPLED = 4000
"""Conversations looked at to choose a row's length: enough to know the mean to a percent or two."""
MOST_ROWS = 16
"""Rows per optimizer step up to which lengths of a row are tried."""
SLACKS = (0.97, 1.0, 1.02, 1.05, 1.1)
"""Lengths that are tried for one number of rows, relative to a row without any padding."""
CLOSE = 0.02
"""Relative differences in conversations per step below this are taken as none."""


@dataclass(frozen=True)
class Packing:
    """One way to pack that keeps the conversations per optimizer step."""

    cutoff_len: int
    """LLaMA-Factory's setting: tokens of a row, and one more."""
    accumulation: int
    """Rows per optimizer step and device."""
    per_row: float
    """Conversations in a row, on average."""
    filled: float
    """Share of a row's tokens that are no padding."""

    @property
    def per_step(self) -> float:
        """Conversations per optimizer step and device, on average."""
        return self.per_row * self.accumulation


def packed_rows(lengths: Sequence[int], capacity: int) -> int:
    """Return the number of rows that LLaMA-Factory's packing needs.

    It takes the longest conversation that still fits, again and again, within each batch of 1,000.

    Args:
        lengths: tokens of each conversation, each at most `capacity`.
        capacity: tokens that fit into a row.
    """
    rows = 0
    for start in range(0, len(lengths), BATCH_ROWS):
        waiting = sorted(lengths[start : start + BATCH_ROWS])
        while waiting:
            rows += 1
            room = capacity
            while (fitting := bisect_right(waiting, room)) > 0:
                room -= waiting.pop(fitting - 1)
    return rows


def choose_packing(lengths: Sequence[int], per_step: int, cutoffs: Sequence[int]) -> Packing | None:
    """Choose the length of a row and the accumulation that keep the conversations per optimizer step best.

    Among equally good ones the longest row wins: fewer, fuller passes. None where no cutoff is longer than
    the longest conversation.

    Args:
        lengths: tokens of each conversation.
        per_step: conversations per optimizer step and device to keep.
        cutoffs: values of `cutoff_len` to choose among; packing takes one token off.
    """
    step = max(1, len(lengths) // SAMPLED)
    sample, longest = lengths[::step], max(lengths, default=0)
    fitting = sorted(cutoff for cutoff in cutoffs if cutoff > longest)
    best: tuple[float, Packing] | None = None
    for cutoff in _promising(fitting, per_step * sum(sample) / max(1, len(sample))):
        per_row = len(sample) / packed_rows(sample, cutoff - 1)
        accumulation = max(1, round(per_step / per_row))
        found = Packing(cutoff, accumulation, per_row, sum(sample) / len(sample) * per_row / (cutoff - 1))
        difference = max(0.0, abs(found.per_step / per_step - 1) - CLOSE)
        if best is None or difference < best[0]:
            best = (difference, found)
    return best[1] if best else None


def _promising(cutoffs: Sequence[int], step_tokens: float) -> list[int]:
    """Return, longest first, the cutoffs near which a whole number of rows holds one step's tokens."""
    if not cutoffs:
        return []
    wanted = [step_tokens / rows * slack for rows in range(1, MOST_ROWS + 1) for slack in SLACKS]
    nearest = {cutoffs[min(bisect_left(cutoffs, tokens), len(cutoffs) - 1)] for tokens in wanted}
    return sorted({*nearest, cutoffs[-1]}, reverse=True)
