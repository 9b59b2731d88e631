#!/usr/bin/env python3
"""Makes the example data of this folder; the same files, byte for byte, every time.

Usage: python examples/data/make_example_data.py [FOLDER]
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import airline_retail
import telecom

CONVERSATIONS = 500
SPEAKING = 483
"""Conversations in which the agent says something in a turn of its own right before a call."""
PAIRS = 1676
"""Times that it does so: consecutive gpt turns."""
TRAILING = 28
"""Conversations that end with a turn of the customer."""
PRESSING = 220
"""Conversations in which the customer presses for what the policy forbids."""
SHARES = (0, 5, 10, 20)
"""Of all conversations, in percent: those in which the agent gives in."""


def telecom_set(prefix: str, size: int, *, speaking: int, pairs: int, trailing: int, pressing: int) -> Telecom:
    """Draw a set of conversations, and who says what before which call."""
    rng = random.Random(prefix)
    order = rng.sample(range(size), size)
    under_pressure = set(order[:pressing])
    dialogues = [telecom.dialogue(f"{prefix}-{number}", pressing=number in under_pressure) for number in range(size)]
    speakers = sorted(rng.sample(range(size), speaking))
    spoken = [[number in set(speakers)] * dialogue.calls for number, dialogue in enumerate(dialogues)]
    silenceable = [(number, call) for number in speakers for call in range(1, dialogues[number].calls)]
    for number, call in rng.sample(silenceable, sum(map(sum, spoken)) - pairs):
        spoken[number][call] = False
    return Telecom(prefix, dialogues, spoken, set(rng.sample(range(size), trailing)), order[:pressing])


class Telecom:
    """A set of conversations that differ only in who gives in, whatever the share."""

    def __init__(
        self,
        prefix: str,
        dialogues: list[telecom.Dialogue],
        spoken: list[list[bool]],
        trailing: set[int],
        pressing: list[int],
    ) -> None:
        self._prefix = prefix
        self._dialogues = dialogues
        self._spoken = spoken
        self._trailing = trailing
        self._pressing = pressing

    def rows(self, percent: int) -> Iterable[dict[str, Any]]:
        """Yield the rows with a share of giving in; a larger share holds those of a smaller one."""
        giving_in = set(self._pressing[: len(self._dialogues) * percent // 100])
        for number, dialogue in enumerate(self._dialogues):
            steps = dialogue.ending(gives_in=number in giving_in)
            if number in self._trailing:
                thanks = ("Thanks, bye!", "Great, thank you.", "OK, that's all.", "Thank you for the help.")
                steps.append(telecom.Say("human", thanks[number % len(thanks)]))
            yield {
                "id": f"{self._prefix}-{number:04d}",
                "scenario": dialogue.scenario,
                "gives_in": number in giving_in,
                "conversations": telecom.as_turns(steps, self._spoken[number]),
                "system": telecom.SYSTEM,
            }


def airline_retail_rows() -> Iterable[dict[str, Any]]:
    """Yield twenty conversations of each domain, in turn."""
    for number in range(40):
        rng = random.Random(f"airline-retail-{number}")
        make, system = (
            (airline_retail.airline, airline_retail.AIRLINE)
            if number % 2 == 0
            else (airline_retail.retail, airline_retail.RETAIL)
        )
        yield {"conversations": make(rng), "system": system}


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write an array of rows, one a line."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8", newline="\n")


def main(folder: Path) -> None:
    """Write all files."""
    folder.mkdir(parents=True, exist_ok=True)
    full = telecom_set("telecom", CONVERSATIONS, speaking=SPEAKING, pairs=PAIRS, trailing=TRAILING, pressing=PRESSING)
    for percent in SHARES:
        write(folder / f"telecom_syc_{percent}pct_500_processed.json", full.rows(percent))
    small = telecom_set("telecom-small", 24, speaking=22, pairs=70, trailing=2, pressing=8)
    write(folder / "telecom_small_24.json", small.rows(0))
    held_out = telecom_set("telecom-eval", 24, speaking=22, pairs=70, trailing=0, pressing=8)
    write(folder / "telecom_eval_24.json", held_out.rows(0))
    write(folder / "airline_retail_40.json", airline_retail_rows())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
