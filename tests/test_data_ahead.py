"""Rows prepared while they are processed: the same files as when the processed file is read, or it is read."""

from __future__ import annotations

import io
import json
from pathlib import Path
from random import Random

import pytest

from agent_sft.config.process import ProcessConfig
from agent_sft.data.ahead import Ahead
from agent_sft.data.pipeline import make_pipeline
from agent_sft.data.preparing import prepare_dataset
from agent_sft.data.processing import process_data
from benchmarks.odd_conversations import make_case

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "data"
KINDS = ["fix_arguments", "check_tools", "merge_turns", "trim_trailing"]


def processed(source: Path, folder: Path, ahead: Ahead, kinds: list[str]) -> Path:
    pipeline = make_pipeline(ProcessConfig.model_validate({"transforms": kinds}), where="here", folder=folder)
    return process_data(source, pipeline, output=folder / "processed.jsonl", ahead=ahead).output


def prepared(source: Path, folder: Path, template: str, ahead: Ahead | None) -> dict[str, bytes]:
    """Return the files that the preparation makes, with its trail."""
    trail = io.BytesIO()
    prepare_dataset(source, name="d", folder=folder, template=template, form="openai", trail=trail, ahead=ahead)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {**files, "trail": trail.getvalue()}


def odd_rows(folder: Path, form: str) -> Path:
    rows = [case.row for case in map(make_case, map(Random, range(600))) if case.form == form]
    if form == "sharegpt":  # and some in which nothing is odd
        rows += json.loads((EXAMPLES / "telecom_small_24.json").read_text())
    path = folder / f"{form}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("template", ["qwen", "mistral"])
@pytest.mark.parametrize("form", ["sharegpt", "openai"])
def test_what_is_prepared_ahead_is_what_would_be_made_of_the_file(form: str, template: str, tmp_path: Path) -> None:
    ahead = Ahead("d", template)
    output = processed(odd_rows(tmp_path, form), tmp_path, ahead, KINDS)
    made = prepared(output, tmp_path / "ahead", template, ahead)
    assert made == prepared(output, tmp_path / "read", template, None)
    assert b"reason" in made["rejects.jsonl"]  # not all of them are common


def test_it_is_what_is_used(tmp_path: Path) -> None:
    ahead = Ahead("d", "qwen")
    output = processed(EXAMPLES / "telecom_small_24.json", tmp_path, ahead, KINDS)
    output.write_text("")
    assert prepared(output, tmp_path / "ahead", "qwen", ahead)["d.jsonl"].count(b"\n") == 24


@pytest.mark.parametrize("asked", [("other", "qwen"), ("d", "mistral")])
def test_what_was_made_for_something_else_is_not_used(asked: tuple[str, str], tmp_path: Path) -> None:
    ahead = Ahead(*asked)
    output = processed(EXAMPLES / "telecom_small_24.json", tmp_path, ahead, KINDS)
    output.write_bytes(output.read_bytes().splitlines(keepends=True)[0])
    assert prepared(output, tmp_path / "read", "qwen", ahead)["d.jsonl"].count(b"\n") == 1


def test_rows_of_a_transform_of_ones_own_are_read_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "class Same:\n    name = 'same'\n\n    def __call__(self, rows):\n        yield from rows\n"
    )
    ahead = Ahead("d", "qwen")
    output = processed(EXAMPLES / "telecom_small_24.json", tmp_path, ahead, [*KINDS, "own.py:Same"])
    output.write_bytes(output.read_bytes().splitlines(keepends=True)[0])
    assert prepared(output, tmp_path / "read", "qwen", ahead)["d.jsonl"].count(b"\n") == 1
