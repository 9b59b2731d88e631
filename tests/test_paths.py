"""Data may lie in folders whose names mean something to other programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sft.engines.llamafactory.paths import plainly_named


@pytest.mark.parametrize("name", ["plain", "with space", "it's é"])
def test_ordinary_names_are_used_as_they_are(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with plainly_named(tmp_path / name) as folder:
        assert folder == tmp_path / name


@pytest.mark.parametrize("name", ["$HOME", "a*b", "what?", "[x]", "a::b"])
def test_special_names_are_reached_by_a_link_that_is_gone_afterwards(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "rows.jsonl").write_text("rows")
    with plainly_named(tmp_path / name) as folder:
        assert name not in str(folder)
        assert (folder / "rows.jsonl").read_text() == "rows"
    assert not folder.exists()
    assert (tmp_path / name / "rows.jsonl").exists()
