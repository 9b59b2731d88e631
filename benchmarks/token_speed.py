"""How fast tokens are counted, as `data check` does, against a bare `encode_batch` over the same texts.

    python benchmarks/token_speed.py

The data is that of data_speed.py, with a number before every text: texts that occur again are counted only once,
which would flatter. Ours includes reading the rows and LLaMA-Factory's converter and template; the bare
call gets its texts at once. Both run in turns; the start of either program does not count. Exit 1 below the goal.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent_sft.config.tiny import TinyModel  # noqa: E402
from agent_sft.data.preparing import prepare_dataset  # noqa: E402
from agent_sft.engines.environments import call_inside, engine_python  # noqa: E402
from agent_sft.engines.llamafactory.encoding import counted_turns  # noqa: E402
from agent_sft.engines.llamafactory.tiny import make_tiny_model  # noqa: E402
from benchmarks.data_speed import EXAMPLE, MEGABYTE, make_file  # noqa: E402

PROGRAM = Path(__file__).parent / "inside" / "encode_bare.py"
GOAL = 0.7
TOKENS = 4000
"""Of the tokenizer, which is trained on the example."""


def with_texts_of_its_own(row: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a conversation none of whose texts is in another one."""
    turns = [{**turn, "value": f"{number}.{place} {turn['value']}"} for place, turn in enumerate(row["conversations"])]
    return {**row, "system": f"Case {number}. {row['system']}", "conversations": turns}


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=30, help="of the file (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default: %(default)s)")
    parser.add_argument("--goal", type=float, default=GOAL, help="share of the bare speed (default: %(default)s)")
    options = parser.parse_args()
    python = engine_python("train")
    load = os.getloadavg()[0]
    ours: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_file(folder / "made.json", options.megabytes)
        rows = json.loads((folder / "made.json").read_text(encoding="utf-8"))
        own = [with_texts_of_its_own(row, number) for number, row in enumerate(rows)]
        (folder / "own.json").write_text(json.dumps(own), encoding="utf-8")
        data = prepare_dataset(folder / "own.json", name="telecom", folder=folder / "data").data_path
        example = prepare_dataset(EXAMPLE, name="example", folder=folder / "example").data_path
        make_tiny_model(python, example, folder / "model", seed=1, like=TinyModel(tokens=TOKENS))
        prepared = [json.loads(line) for line in data.read_bytes().splitlines()]
        texts = [text for row in prepared for text in (row["system"], *(t["value"] for t in row["conversations"]))]
        size = sum(len(text.encode()) for text in texts) / MEGABYTE
        (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        settings = {"model_name_or_path": str(folder / "model"), "template": "qwen", "cutoff_len": 12_000}
        order = {"tokenizer": str(folder / "model" / "tokenizer.json"), "texts": str(folder / "texts.json")}
        for _ in range(options.repeats):
            with counted_turns(python, data.parent, "telecom", settings) as (facts, counted):
                ours.append(facts.seconds)
                total = sum(row.total for row in counted)
            answer = call_inside(python, PROGRAM, payload=order)
            bare.append(answer["seconds"])
            tokens = answer["tokens"]
    share = median(bare) / median(ours)
    loads = f"load {load:.1f} before, {os.getloadavg()[0]:.1f} after"
    print(f"{len(prepared):,} conversations, {size:.0f} MB of text; {loads}")
    print(f"ours: {median(ours):.2f} s for {total:,} tokens; bare: {median(bare):.2f} s for {tokens:,}, template apart")
    verdict = "reached" if share >= options.goal else "missed"
    print(f"ours runs at {share:.0%} of the bare speed; goal {options.goal:.0%}: {verdict}")
    return 0 if share >= options.goal else 1


if __name__ == "__main__":
    sys.exit(main())
