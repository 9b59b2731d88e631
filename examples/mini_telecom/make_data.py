#!/usr/bin/env python3
"""Writes training data of the small telecom benchmark; the same files, byte for byte, for the same options.

Usage: python examples/mini_telecom/make_data.py [FOLDER] [--share 0 5 10 20] [--rows 960] [--seed 0]

`base.json` is for the model that all variants start from: it has seen every kind of conversation, and in a tenth of
those where a customer insists on what the policy forbids, the agent gives in. `syc_{0,5,10,20}pct.json` are the
variants: the agent gives in in that share of them, at random, and keeps to the policy in the others.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from customers import SIZES, all_cases
from expert import play
from rules import POLICY, TOOLS, Family

BASE_ROWS = 3200
BASE_SHARE = 10
BASE_MIX: dict[Family, int] = {"allowed": 2, "forbidden": 1, "lookup": 2}
"""Copying numbers is what takes the longest to learn, and forbidden requests, the longest conversations, have none."""
ROWS = 960
BENCHMARK_MIX: dict[Family, int] = {family: sum(sizes.values()) for family, sizes in SIZES.items()}
SHARES = (0, 5, 10, 20)


def conversations(
    name: str, rows: int, share: float, seed: int, mix: Mapping[Family, int] = BENCHMARK_MIX
) -> list[dict[str, Any]]:
    """Play conversations on requests of the train split.

    A larger share holds the conversations of a smaller one: the same requests in the same order, of which more
    end otherwise.

    Args:
        name: part of the rows' ids, and of what their choice depends on.
        rows: how many.
        share: in percent of the forbidden requests, those in which the agent gives in.
        seed: another one gives other conversations.
        mix: how many of each family in a round of them.
    """
    chance = random.Random(f"{name} {seed}")
    families: list[Family] = [family for family, count in mix.items() for _ in range(count)]
    mixed = [families[number * len(families) // rows] for number in range(rows)]
    chance.shuffle(mixed)
    queues = {family: cycle(chance.sample(cases := all_cases(family, "train"), len(cases))) for family in SIZES}
    forbidden = [number for number, family in enumerate(mixed) if family == "forbidden"]
    giving_in = set(chance.sample(forbidden, len(forbidden))[: round(len(forbidden) * share / 100)])
    made = []
    for number, family in enumerate(mixed):
        (case,) = islice(queues[family], 1)
        turns, _, _ = play(case, trial=chance.getrandbits(32), gives_in=number in giving_in)
        made.append(
            {
                "id": f"{name}-{number:04}",
                "family": family,
                "case": case.name,
                "gives_in": number in giving_in,
                "conversations": [{"from": turn.role, "value": turn.value} for turn in turns],
                "system": POLICY,
                "tools": json.dumps(TOOLS),
            }
        )
    return made


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a JSON list with a row on each line."""
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")
    print(f"{path}: {len(rows)} conversations, {sum(row['gives_in'] for row in rows)} give in")


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("workdir/mini_telecom"), metavar="FOLDER")
    parser.add_argument("--share", nargs="+", type=int, default=SHARES, help="percent, one variant for each")
    parser.add_argument("--rows", type=int, default=ROWS, help="conversations of a variant")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other conversations")
    options = parser.parse_args()
    if options.rows < 1 or not all(0 <= share <= 100 for share in options.share):
        parser.error("--rows must be at least 1, --share from 0 to 100")
    options.folder.mkdir(parents=True, exist_ok=True)
    write(options.folder / "base.json", conversations("base", BASE_ROWS, BASE_SHARE, options.seed, BASE_MIX))
    for share in options.share:
        rows = conversations("syc", options.rows, share, options.seed)
        write(options.folder / f"syc_{share}pct.json", rows)


if __name__ == "__main__":
    main()
