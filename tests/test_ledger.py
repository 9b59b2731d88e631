"""Runs on several inputs: merged, evaluated on what is held out, accounted for, and done again only where needed."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_sft.data.trail import measure_prepared
from tests.conftest import RunCli
from tests.support import QUICK, loaded_examples, short_data, tree

pytestmark = pytest.mark.slow

ONE_MORE = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
CUTOFF = 100
"""Tokens: the long chat below has more, the others do not."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    options: tuple[str, ...]
    printed: str

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "data_report.json").read_text())
        return found

    def rows(self, place: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / place).read_bytes().splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, call_cli: RunCli) -> Run:
    folder = tmp_path_factory.mktemp("several")
    short_data(folder)
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}]
    long = [{"role": role, "content": f"{role} says " * 12} for _ in range(5) for role in ("user", "assistant")]
    rows = [{"messages": [*chat, {"role": "user", "content": "bye"}]}, {"messages": [chat[0]]}, {"messages": long}]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    simulations = [
        {"id": str(number), "task_id": "t", "messages": chat, "reward_info": {"reward": number % 2}}
        for number in range(4)
    ]
    (folder / "results.json").write_text(json.dumps({"simulations": simulations, "info": {}, "tasks": []}))
    pipeline = ["merge_turns", "dedup", {"kind": "split", "params": {"by": "messages.0.content", "eval": 0.2}}]
    (folder / "pipeline.yaml").write_text(yaml.safe_dump({"transforms": pipeline}))
    data = ("short.json", "--dataset", "chats.jsonl", "--trajectory-dataset", "results.json", "--min-reward", "1")
    options = (
        *(*data, *QUICK, "--process", "pipeline.yaml", "--cutoff-len", str(CUTOFF), "--steps", "1"),
        *("--allow-rejects", "--output-dir", "out"),
    )
    done = call_cli("sft", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return Run(folder, options, done.stdout + done.stderr)


def test_every_row_of_every_input_has_its_fate(run: Run) -> None:
    told = {(line["file"], line["row"]): line for line in run.rows("changes.jsonl")}
    unchanged = run.report["unchanged"]
    assert told["results.json", 1]["by"] == told["results.json", 3]["by"] == "reward"
    assert told["results.json", 4]["reason"] == "the same as row 2 of results.json"
    assert "results.json" not in unchanged or unchanged["results.json"] == "2"
    assert [(reject["file"], reject["row"]) for reject in run.rows("rejects.jsonl")] == [("chats.jsonl", 2)]
    assert told["chats.jsonl", 2]["fate"] == "rejected"
    assert run.report["rows"]["read"] == 24 + 3 + 4
    assert set(run.report["inputs"]) == {"short.json", "chats.jsonl", "results.json"}


def test_the_totals_are_those_of_the_files_that_are_trained_and_evaluated_on(run: Run) -> None:
    folder = "fitted" if (run.out / "fitted").is_dir() else "data"
    for use, name in (("trained on", "calls"), ("evaluated on", "calls_eval")):
        rows = run.rows(f"{folder}/{name}.jsonl")
        assert run.report["examples"][use] == len(rows)
        for unit in ("turns", "characters"):
            assert run.report[unit][use] == sum(measure_prepared(row)[unit] for row in rows)
    assert loaded_examples(run.out) == [run.report["examples"]["trained on"]]


def test_what_is_held_out_is_evaluated_on_and_the_totals_are_printed(run: Run) -> None:
    assert "evaluation: on the 3 rows that 'split' held out" in run.printed
    assert run.report["rows"]["evaluated on"] == 2, "one of them is a reject"
    assert re.search(r"eval loss +\d", run.printed)
    assert "data: rows: 31 read = " in run.printed
    assert "--eval_dataset calls_eval" in run.printed
    record = json.loads((run.out / "stages" / "train.json").read_text())["outputs"]
    assert record["examples"]["train"] == run.report["examples"]["trained on"]
    examples, tokens = record["examples"]["train"], record["tokens"]["train"]
    assert f"LLaMA-Factory has {examples} examples of {tokens:,} tokens" in run.printed


def test_the_same_again_does_nothing_and_a_dry_run_names_the_inputs(run: Run, call_cli: RunCli) -> None:
    before = tree(run.out)
    again = call_cli("sft", *run.options, cwd=run.folder)
    assert again.stdout.startswith("finished already"), again.stdout + again.stderr
    assert tree(run.out) == before


def test_another_content_of_one_input_is_seen(run: Run, call_cli: RunCli) -> None:
    folder = run.folder.with_name("changed")
    shutil.copytree(run.folder, folder)
    with (folder / "chats.jsonl").open("a") as stream:
        stream.write(json.dumps(ONE_MORE))
    shown = call_cli("sft", *run.options, "--dry-run", cwd=folder).stdout
    assert "process: runs: chats.jsonl changed" in shown
    assert re.search(r"^input: short.json sha256:\w+$", shown, re.MULTILINE)
    assert re.search(r"^rollouts: results.json sha256:\w+$", shown, re.MULTILINE)
    other = call_cli("sft", *run.options, "--val-size", "2", "--steps", "2", "--dry-run", cwd=run.folder).stdout
    assert "process: done already" in other


def test_another_evaluation_wins_over_what_is_held_out(run: Run, call_cli: RunCli) -> None:
    folder = run.folder.with_name("other")
    shutil.copytree(run.folder, folder, ignore=shutil.ignore_patterns("out"))
    (folder / "other.jsonl").write_text(json.dumps(ONE_MORE))
    done = call_cli("sft", *run.options, "--eval-dataset", "other.jsonl", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "the 3 rows that 'split' held out are not used, as --eval-dataset is given" in done.stderr
    report = json.loads((folder / "out" / "data_report.json").read_text())
    assert (report["rows"]["held out"], report["rows"]["evaluated on"]) == (3, 1)
