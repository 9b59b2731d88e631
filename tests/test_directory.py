"""A run's directory keeps everything and overwrites nothing."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from agent_sft.errors import UserError
from agent_sft.runs.directory import RunDirectory, Stamp, check_is_directory

STAMP = Stamp("train", "sha256:1", {"lr": 0.1, "data": "sha256:a"}, {"files": {}}, "then", "now")


def test_a_stamp_is_read_back_as_written(tmp_path: Path) -> None:
    RunDirectory(tmp_path).write_stamp(STAMP)
    assert RunDirectory(tmp_path).stamp("train") == STAMP


@pytest.mark.parametrize("content", [b"", b'{"stage": "tr', b"[]", b'{"stage": "train"}'])
def test_a_damaged_stamp_counts_as_not_done(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "train.json").write_bytes(content)
    assert RunDirectory(tmp_path).stamp("train") is None


def test_a_dropped_stamp_is_gone(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_stamp(STAMP)
    run.drop_stamp("train")
    run.drop_stamp("train")
    assert run.stamp("train") is None


def test_a_difference_is_told_in_words() -> None:
    assert STAMP.difference({"lr": 0.2, "data": "sha256:b"}) == "lr was 0.1, is 0.2, data changed"
    nested = Stamp("train", "", {"settings": {"epochs": 1, "seed": 1}}, {}, "", "")
    assert nested.difference({"settings": {"epochs": 2, "seed": 1}}) == "epochs was 1, is 2"


def test_attempts_are_numbered_and_never_reused(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert [run.new_attempt().name for _ in range(3)] == ["1", "2", "3"]
    (tmp_path / "attempts" / "2").rmdir()
    assert run.new_attempt().name == "4"


def test_what_is_set_aside_is_kept_with_the_reason(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3" / "weights").write_text("precious")
    folder = run.set_aside([tmp_path / "checkpoint-3", tmp_path / "missing"], "half written")
    assert folder is not None
    assert (folder / "checkpoint-3" / "weights").read_text() == "precious"
    assert orjson.loads((folder / "why.json").read_bytes())["reason"] == "half written"
    assert not (tmp_path / "checkpoint-3").exists()
    assert orjson.loads((tmp_path / "events.jsonl").read_bytes())["event"] == "set-aside"


def test_nothing_to_set_aside_makes_nothing(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path).set_aside([tmp_path / "missing"], "why") is None
    assert list(tmp_path.iterdir()) == []


def test_the_journal_grows_by_a_line_an_event(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.record("started", options={"a": 1})
    run.record("ended")
    lines = [orjson.loads(line) for line in (tmp_path / "events.jsonl").read_bytes().splitlines()]
    assert [line["event"] for line in lines] == ["started", "ended"]
    assert lines[0]["options"] == {"a": 1}


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "saves").write_text("")
    for place in (tmp_path / "saves", tmp_path / "saves" / "model" / "data"):
        with pytest.raises(UserError, match="is a file, not a directory"):
            check_is_directory(place)
    check_is_directory(tmp_path / "new" / "place")
