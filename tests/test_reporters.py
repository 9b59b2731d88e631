"""Experiment trackers get the metrics, each by its own library, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sft.engines.environments import engine_versions
from agent_sft.engines.llamafactory.facts import REPORTERS
from tests.conftest import RunCli
from tests.support import QUICK, losses, short_data

WRITES = {
    "tensorboard": "out/runs/*/events.*",
    "wandb": "wandb/offline-run-*",
    "mlflow": "mlruns/*/*/metrics/loss",
    "swanlab": "swanlog/run-*",
}


@pytest.mark.slow
def test_every_tracker_that_is_asked_for_gets_the_metrics(tmp_path: Path, run_cli: RunCli, full_run: Path) -> None:
    offline = {"WANDB_MODE": "offline", "SWANLAB_MODE": "offline"}
    trackers = [word for tracker in WRITES for word in ("--report-to", tracker)]
    options = ("--steps", "2", *trackers, "--output-dir", "out")
    done = run_cli("sft", short_data(tmp_path), *QUICK, *options, cwd=tmp_path, env=offline)
    assert done.returncode == 0, done.stderr
    for tracker, written in WRITES.items():
        assert list(tmp_path.glob(written)), tracker
    assert losses(tmp_path / "out") == losses(full_run), "started by itself, or forked: it comes to the same"


@pytest.mark.slow
def test_a_tracker_that_is_not_installed_is_said_before_anything_starts(
    tmp_path: Path, run_cli: RunCli, train_python: Path
) -> None:
    missing = [name for name, names in REPORTERS.items() if not any(engine_versions(train_python, names).values())]
    for name in missing:
        done = run_cli("sft", short_data(tmp_path), *QUICK, "--report-to", name, "--output-dir", "out", cwd=tmp_path)
        assert done.returncode == 2
        assert f"{name} is not installed in the train environment" in done.stderr
        assert not (tmp_path / "out").exists()
    assert set(missing) <= {"trackio"}
