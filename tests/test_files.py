"""Files that are either whole or not there."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest

from agent_sft.files import WriteBehind, atomic_writer, unnamed_file


def test_a_file_without_a_name_is_given_one_with_what_is_written_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows"
    with unnamed_file(tmp_path) as content:
        content.write(b"first\n")
        with atomic_writer(path, content=content) as stream:
            stream.write(b"second\n")
            assert not path.exists()
    assert path.read_bytes() == b"first\nsecond\n"
    assert [one.name for one in tmp_path.rglob("*")] == ["new", "rows"]
    other = tmp_path / "other"
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_what_has_no_place_on_the_disk_is_copied(tmp_path: Path) -> None:
    with atomic_writer(tmp_path / "rows", content=io.BytesIO(b"first\n")) as stream:
        stream.write(b"second\n")
    assert (tmp_path / "rows").read_bytes() == b"first\nsecond\n"


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"before")
    with unnamed_file(tmp_path) as content:
        content.write(b"first\n")
        with pytest.raises(ValueError, match="no"), atomic_writer(path, content=content):
            raise ValueError("no")
        assert [one.name for one in tmp_path.iterdir()] == ["rows"]
        assert path.read_bytes() == b"before"
        with atomic_writer(path, content=content):  # it can be tried again
            pass
    assert path.read_bytes() == b"first\n"


def test_what_is_written_behind_is_whole_whatever_happens_to_the_disk(tmp_path: Path) -> None:
    with (tmp_path / "rows").open("wb") as stream, WriteBehind(stream, io.BytesIO(), each=10) as behind:
        for _ in range(50):
            stream.write(b"123456789\n")
            behind.wrote(10)
    assert (tmp_path / "rows").read_bytes() == b"123456789\n" * 50
    assert threading.active_count() == 1  # or large files would be left to one process
