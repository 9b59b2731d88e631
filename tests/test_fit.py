"""What is fitted to the cutoff is trained on whole, by the real LLaMA-Factory's own count."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent_sft.data.dataset_info import info_content
from agent_sft.data.fitting import Counts, Fitting
from agent_sft.data.preparing import prepare_dataset
from agent_sft.engines.llamafactory.encoding import counted_turns
from agent_sft.engines.llamafactory.tiny import make_tiny_model
from tests.support import QUICK, SMALL, loaded_examples

PROGRAM = Path(__file__).parent / "inside" / "load_datasets.py"
DATA = Path(__file__).resolve().parents[1] / "examples" / "data"
CUTOFFS = (330, 420, 540)
"""Shorter than all rows, than some, than few."""
POLICIES: tuple[Any, ...] = ("trim", "split", "drop")

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Prepared:
    """All example data, with the tokens of every turn."""

    folder: Path
    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    counts: list[Counts]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, train_python: Path) -> Prepared:
    folder = tmp_path_factory.mktemp("fit")
    source = folder / "all.jsonl"
    rows = [row for path in sorted(DATA.glob("*.json")) for row in orjson.loads(path.read_bytes())[:60]]
    source.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    report = prepare_dataset(source, name="d", folder=folder / "data")
    make_tiny_model(train_python, report.data_path, folder / "base", seed=1)
    settings = {"model_name_or_path": str(folder / "base"), "template": "qwen", "cutoff_len": 540}
    with counted_turns(train_python, folder / "data", "d", settings) as (_, found):
        counts = [Counts(row.pairs, row.head, row.extra) for row in found]
    lines = report.data_path.read_bytes().splitlines()
    assert len(lines) == len(counts) > 150
    return Prepared(folder, settings, [orjson.loads(line) for line in lines], counts)


def test_what_was_counted_is_what_a_training_gets(prepared: Prepared, train_python: Path) -> None:
    """Examples, tokens and tokens with loss, for every policy, and for loss on calls, at three cutoffs."""
    fittings = [Fitting(cutoff, policy, "all_assistant", False) for cutoff, policy in product(CUTOFFS, POLICIES)]
    fittings += [Fitting(420, "trim", "tool_calls", True), Fitting(420, "trim", "final_answer", True)]
    folder, info = prepared.folder / "fitted", b"{}"
    folder.mkdir()
    promised, asked = [], []
    for number, fitting in enumerate(fittings):
        made = [fitting.apply(row, counts) for row, counts in zip(prepared.rows, prepared.counts, strict=True)]
        examples = [example for fitted in made for example in fitted.rows]
        lines = b"".join(orjson.dumps(example, option=orjson.OPT_APPEND_NEWLINE) for example in examples)
        (folder / f"d{number}.jsonl").write_bytes(lines)
        info = info_content(orjson.loads(info), f"d{number}", f"d{number}.jsonl")
        promised.append({"examples": len(examples), "tokens": sum(fitted.tokens_trained or 0 for fitted in made)})
        asked.append(
            {
                **prepared.settings,
                "dataset": f"d{number}",
                "dataset_dir": str(folder),
                "cutoff_len": fitting.cutoff,
                "mask_history": fitting.masked,
            }
        )
        assert examples
    (folder / "dataset_info.json").write_bytes(info)
    done = subprocess.run(
        [train_python, "-P", PROGRAM],
        input=json.dumps(asked),
        env={**os.environ, "HF_HOME": str(folder), "HF_DATASETS_CACHE": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert [{name: one[name] for name in ("examples", "tokens")} for one in found] == promised
    trimmed = fittings[0]
    kept = [
        len(trimmed.apply(row, counts).rows and trimmed.apply(row, counts).rows[0]["conversations"]) // 2
        for row, counts in zip(prepared.rows, prepared.counts, strict=True)
    ]
    loss = sum(
        answer for counts, pairs in zip(prepared.counts, kept, strict=True) for _, answer in counts.pairs[:pairs]
    )
    assert found[0]["loss_tokens"] == loss
    # Something was cut away at the shortest cutoff, windows keep more of it than trimming, and dropping the least.
    assert found[2]["loss_tokens"] < found[0]["loss_tokens"] <= found[1]["loss_tokens"] <= found[7]["loss_tokens"]


def test_a_run_trims_says_so_and_trains_on_what_it_promised(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    options = (*QUICK, "--cutoff-len", "420", "--supervise", "tool_calls", "--steps", "1")
    done = run_cli("sft", SMALL, *options, "--output-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    fitted = (tmp_path / "out" / "fitted" / "calls.jsonl").read_bytes().splitlines()
    assert loaded_examples(tmp_path / "out") == [len(fitted)]
    assert "fit: calls: loss on tool_calls makes" in done.stderr
    changes = [orjson.loads(line) for line in (tmp_path / "out" / "fitted" / "changes.jsonl").read_bytes().splitlines()]
    assert [change["row"] for change in changes] == list(range(1, 25))
    assert all(change["tokens"] > 420 for change in changes if change["what"] == "trimmed")
    again = run_cli("sft", SMALL, *options, "--output-dir", tmp_path / "out")
    assert again.stdout.startswith("finished already")


def test_a_run_that_may_not_cut_names_the_longest_row(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    options = (*QUICK, "--cutoff-len", "420", "--on-overflow", "error")
    done = run_cli("sft", SMALL, *options, "--output-dir", tmp_path / "out")
    assert done.returncode == 2
    assert "24 of 24 rows are longer than the 420 tokens of --cutoff-len: row 1 has" in done.stderr
    assert not (tmp_path / "out").exists()
