"""`dataset_info.json`: everything is declared, and what others declared there stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent_sft.data.dataset_info import check_dataset_name, info_content, read_info
from agent_sft.errors import UserError


def test_other_datasets_stay_and_the_own_entry_is_renewed(tmp_path: Path) -> None:
    path = tmp_path / "dataset_info.json"
    other = {"hf_hub_url": "someone/data", "columns": {"prompt": "q"}}
    path.write_text(json.dumps({"other": other, "mine": {"file_name": "old.json", "ranking": True}}))
    content = info_content(read_info(path), "mine", "mine.jsonl")
    info = json.loads(content)
    assert info["other"] == other
    assert set(info["mine"]) == {"file_name", "formatting", "columns", "tags"}
    assert info["mine"]["columns"] == {"messages": "conversations", "system": "system", "tools": "tools"}
    assert len(info["mine"]["tags"]) == 7


def test_it_is_plain_ascii_because_it_is_opened_in_the_users_locale() -> None:
    assert info_content({}, "données", "données.jsonl").isascii()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": {}', "line 1, column 9: not JSON"),
        (b"", "not JSON"),
        (b"[]", "must hold one object"),
        (b'{"a": "\xff"}', "not UTF-8"),
    ],
)
def test_a_damaged_file_is_named_and_not_overwritten(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_info(path)


@pytest.mark.parametrize("name", ["tau2_sft", "a b", "données", "v1.2", "x" * 200, "telecom_syc_5pct"])
def test_names_that_can_be_used(name: str) -> None:
    check_dataset_name(name)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        ("a/b", "a slash"),
        ("a\\b", "a slash"),
        ("..", "'..'"),
        ("a..b", "'..'"),
        (".hidden", "starts with a dot"),
        ("a,b", "a comma"),
        ("a\nb", "does not show"),
        (" a", "does not show"),
        ("rejects", "'rejects.jsonl'"),
        ("é" * 101, "longer than 200 bytes"),
    ],
)
def test_names_that_cannot_be_used(name: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        check_dataset_name(name)
