"""Checkpoints of a finished variant go by a stated rule; the last good one never does."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sft.runs.directory import RunDirectory, Stamp
from agent_sft.sweep.pruning import Keep, prune
from tests.test_checkpoints import checkpoint


def trained(run: Path, *steps: int, finished: bool = True, processes: int = 1) -> Path:
    for step in steps:
        checkpoint(run, step, processes)
    if finished:
        inputs = {"processes": processes}
        RunDirectory(run).write_stamp(Stamp("train", "sha256:0", inputs, {"steps": steps[-1]}, "", ""))
    return run


def left(run: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[2]) for path in run.glob("checkpoint-*"))


@pytest.mark.parametrize(("keep", "stay"), [("all", [10, 20, 30, 40]), ("scored", [10, 30, 40]), ("last", [40])])
def test_the_rule(tmp_path: Path, keep: Keep, stay: list[int]) -> None:
    run = trained(tmp_path / "run", 10, 20, 30, 40)
    names, freed = prune(run, keep, {10, 30})
    assert left(run) == stay
    assert len(names) == 4 - len(stay)
    assert (freed > 0) == bool(names)
    assert prune(run, keep, {10, 30}) == ([], 0)


def test_a_damaged_newest_one_does_not_count_as_the_last_good_one(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", 10, 20, 30)
    (run / "checkpoint-30" / "optimizer.pt").unlink()
    prune(run, "last", set())
    assert left(run) == [20]


def test_of_several_processes_each_has_its_part(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", 10, 20, processes=2)
    (run / "checkpoint-20" / "rng_state_1.pth").unlink()
    prune(run, "last", set())
    assert left(run) == [10]


def test_where_none_is_whole_the_newest_stays(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", 10, 20)
    for path in run.glob("*/trainer_state.json"):
        path.unlink()
    prune(run, "last", set())
    assert left(run) == [20]


def test_of_a_training_that_is_not_finished_everything_stays(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", 10, 20, finished=False)
    assert prune(run, "last", set()) == ([], 0)
    assert left(run) == [10, 20]
