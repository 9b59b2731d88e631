"""A stage is done where it was done with the same inputs and what it made is whole, here or in another run."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sft.runs.directory import RunDirectory, Stamp
from agent_sft.stages.stage import Stage


@pytest.fixture
def there(tmp_path: Path) -> RunDirectory:
    """A run that has prepared data A."""
    run = RunDirectory(tmp_path / "there")
    run.path.mkdir()
    Stage("prepare", {"data": "sha256:a"}).perform(run, lambda: made(run, "rows of A"))
    return run


@pytest.fixture
def here(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "here")


def made(run: RunDirectory, text: str) -> tuple[list[Path], dict[str, int]]:
    path = run.path / "data" / "rows.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return [path], {"rows": 1}


def test_what_another_run_did_with_the_same_inputs_is_taken_over(there: RunDirectory, here: RunDirectory) -> None:
    stage = Stage("prepare", {"data": "sha256:a"})
    assert stage.done(here, ()) is None
    stamp = stage.done(here, (there,))
    assert isinstance(stamp, Stamp)
    assert stamp.outputs["rows"] == 1
    assert (here.path / "data" / "rows.jsonl").read_text() == "rows of A"
    assert stage.finished(here) == stamp
    assert "stage taken over" in (here.path / "events.jsonl").read_text()


def test_other_inputs_are_not(there: RunDirectory, here: RunDirectory) -> None:
    assert Stage("prepare", {"data": "sha256:b"}).done(here, (there,)) is None
    assert not here.path.exists()


def test_what_is_no_longer_whole_is_not(there: RunDirectory, here: RunDirectory) -> None:
    (there.path / "data" / "rows.jsonl").write_text("changed")
    assert Stage("prepare", {"data": "sha256:a"}).done(here, (there,)) is None


def test_the_other_run_keeps_what_it_made_when_this_one_makes_it_anew(there: RunDirectory, here: RunDirectory) -> None:
    from agent_sft.files import write_atomic

    Stage("prepare", {"data": "sha256:a"}).done(here, (there,))
    write_atomic(here.path / "data" / "rows.jsonl", "rows of B")
    assert (there.path / "data" / "rows.jsonl").read_text() == "rows of A"
