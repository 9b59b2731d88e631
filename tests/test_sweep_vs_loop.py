"""The benchmark of the sweep against the plain loop: its arithmetic, its loop's settings, and a small run of both."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from agent_sft.errors import UserError
from benchmarks.sweep_vs_loop import Measured, covered, lines, loop_settings, mean_score, row
from tests.conftest import ROOT

PROGRAM = ROOT / "benchmarks" / "sweep_vs_loop.py"


def test_what_overlaps_counts_once() -> None:
    assert covered([]) == 0
    assert covered([(0, 2), (5, 6)]) == 3
    assert covered([(5, 9), (0, 2), (1, 3), (6, 7), (9, 10)]) == 8


def test_the_ratio_and_the_share_of_time_that_is_neither_training_nor_answering() -> None:
    found = row(4, Measured(100.0, 80.0, {"0": 1.0}), Measured(300.0, 60.0, {"0": 0.5}))
    assert (found["ratio"], found["sweep_outside"], found["loop_outside"]) == pytest.approx((3.0, 0.2, 0.8))
    head, figures = lines([found])
    assert "ratio" in head
    assert figures.split() == ["4", "100", "300", "3.00", "20", "%", "80", "%"]


def test_the_loop_trains_by_the_settings_of_the_base(tmp_path: Path) -> None:
    for number, steps in (("2", 2), ("10", 10)):
        attempt = tmp_path / "base" / "attempts" / number
        attempt.mkdir(parents=True)
        settings = {"max_steps": steps, "template": "qwen", "dataset_dir": "/elsewhere", "output_dir": "/elsewhere"}
        (attempt / "train.yaml").write_text(yaml.safe_dump(settings))
    found = loop_settings(tmp_path / "base", {"learning_rate": 0.5}, tmp_path / "here")
    assert (found["max_steps"], found["template"], found["learning_rate"]) == (10, "qwen", 0.5)
    assert found["model_name_or_path"] == str(tmp_path / "base")
    assert {found["dataset_dir"], str(Path(found["output_dir"]).parent)} == {str(tmp_path / "here")}
    with pytest.raises(UserError, match="no settings of a training"):
        loop_settings(tmp_path, {}, tmp_path)


def test_a_score_is_the_mean_over_all_trials(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("".join(json.dumps({"score": score}) + "\n" for score in (1, 0, 1, 1)))
    assert mean_score(tmp_path / "results.jsonl") == 0.75


def test_more_variants_than_there_are_data_for_are_refused() -> None:
    command = [sys.executable, str(PROGRAM), "--variants", "9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--variants" in done.stderr


@pytest.mark.slow
def test_both_ways_run(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), "--variants", "1", "--trials", "1", "--tasks", "2"]
    small = ["--base-steps", "2", "--steps", "2", "--json", str(tmp_path / "figures.json")]
    done = subprocess.run([*command, *small], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert found["sweep_seconds"] > 0 and found["loop_seconds"] > 0
    assert set(found["sweep_scores"]) == set(found["loop_scores"]) == {"0"}
    assert 0 < found["sweep_outside"] < 1 and 0 < found["loop_outside"] < 1
