"""One of the programs that `data_speed.py` compares; each imports what it needs, and nothing else.

Usage: data_program.py ours|merge|orjson SOURCE PLACE
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = ROOT / "configs" / "process" / "telecom.yaml"


def ours(source: Path, place: Path) -> None:
    """Process and prepare, with all the reports that belong to it."""
    sys.path.insert(0, str(ROOT))
    from agent_sft.data.ahead import Ahead
    from agent_sft.data.pipeline import load_pipeline
    from agent_sft.data.preparing import prepare_dataset
    from agent_sft.data.processing import process_data

    ahead = Ahead("telecom", "qwen")
    processed = process_data(source, load_pipeline(PIPELINE), output=place / "processed.jsonl", ahead=ahead)
    prepared = prepare_dataset(
        processed.output, name="telecom", folder=place / "prepared", template="qwen", form="openai", ahead=ahead
    )
    assert prepared.rows_kept == processed.rows["read"], "nothing in this file has to be refused"


def merge(source: Path, place: Path) -> None:
    """Join neighbouring turns of one speaker and cut an unanswered end, with the whole file in memory."""
    import json

    with source.open(encoding="utf-8") as stream:
        rows = json.load(stream)
    for row in rows:
        turns: list[dict[str, Any]] = []
        for turn in row["conversations"]:
            if turns and turns[-1]["from"] == turn["from"]:
                turns[-1]["value"] += "\n" + turn["value"]
            else:
                turns.append(turn.copy())
        if len(turns) % 2 and turns[-1]["from"] == "human":
            turns.pop()
        row["conversations"] = turns
    with (place / "merged.json").open("w", encoding="utf-8") as stream:
        json.dump(rows, stream, ensure_ascii=False, indent=2)


def bare_orjson(source: Path, place: Path) -> None:
    """Decode the file and encode it again."""
    import orjson

    (place / "copy.json").write_bytes(orjson.dumps(orjson.loads(source.read_bytes())))


if __name__ == "__main__":
    {"ours": ours, "merge": merge, "orjson": bare_orjson}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
