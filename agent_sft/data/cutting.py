"""What the cutoff and the choice of turns with loss took away of a row, and what they repeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from agent_sft.data.amounts import CHARACTERS, TURNS, Amounts
from agent_sft.data.fitting import Counts, Fitted
from agent_sft.data.trail import measure_prepared

TOKENS = "tokens"


def cut_and_repeated(row: Mapping[str, Any], made: Fitted, counts: Counts | None) -> tuple[Amounts, Amounts]:
    """Return what of a prepared row no example holds, and what examples hold beyond it: turns held again.

    Unit by unit, the row - cut + repeated is the sum of its examples. Tokens are counted where they are known.

    Args:
        row: as it was prepared.
        made: its examples.
        counts: its tokens.
    """
    before = _with_tokens(measure_prepared(row), made.tokens)
    after = _with_tokens(sum(map(measure_prepared, made.rows), Counter()), made.tokens_trained)
    if not made.rows:
        return before, Counter()
    covered = {pair for window in made.windows for pair in range(window.start, window.end)}
    turns = row["conversations"]
    lost = [pair for pair in range(len(turns) // 2) if pair not in covered]
    cut: Amounts = Counter(
        {
            TURNS: 2 * len(lost),
            CHARACTERS: sum(len(turn["value"]) for pair in lost for turn in turns[2 * pair : 2 * pair + 2]),
        }
    )
    cut = _with_tokens(cut, None if counts is None else sum(sum(counts.pairs[pair]) for pair in lost))
    repeated: Amounts = Counter(after)
    repeated.update(cut)
    repeated.subtract(before)
    return cut, repeated


def change_record(
    dataset: str, number: int, row: Mapping[str, Any], made: Fitted, counts: Counts | None
) -> dict[str, Any]:
    """Return what is written down of a row of which other examples were made.

    Args:
        dataset: its dataset.
        number: its line in the prepared data, from 1.
        row: as it was prepared.
        made: its examples.
        counts: its tokens.
    """
    cut, repeated = cut_and_repeated(row, made, counts)
    flows = {"cut": dict(cut), "repeated": dict(+repeated)}
    return {"dataset": dataset, "row": number, **made.as_json(), **flows}


def _with_tokens(amounts: Amounts, tokens: int | None) -> Amounts:
    return amounts if tokens is None else amounts + Counter({TOKENS: tokens})
