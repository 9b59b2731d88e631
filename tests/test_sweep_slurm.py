"""`--executor slurm`: what is submitted is what would run here, and what cannot be is refused before it waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sft.engines.slurm.words import within
from tests.conftest import RunCli
from tests.sweep_plans import make_files, write_sweep

SLURM = ("--executor", "slurm")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_files(tmp_path, "syc_0.json", "syc_5.json")
    return tmp_path


def ran(script: str) -> list[str]:
    """What a script runs, without the Python."""
    return [line.strip().partition("-m agent_sft ")[2] for line in script.splitlines() if "-m agent_sft" in line]


def test_words_about_the_submission_are_left_out() -> None:
    given = "sweep run a.yaml --executor slurm --slurm time=3 --jobs 2 --slurm=x.yaml --slurm-array --dry-run --name=b"
    assert within(given.split()) == ["sweep", "run", "a.yaml", "--jobs", "2", "--name=b"]
    assert within(["sft", "--", "--slurm"]) == ["sft", "--", "--slurm"]


def test_a_training_runs_as_it_was_given(folder: Path, call_cli: RunCli) -> None:
    options = ("--model", "tiny", "--slurm", "partition=gpu", "--set", "warmup_ratio=0.1", "--dry-run")
    shown = call_cli("sft", "syc_0.json", *SLURM, *options, cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert ran(shown.stdout) == ["sft syc_0.json --model tiny --set warmup_ratio=0.1"]
    assert f"#SBATCH --chdir={folder}" in shown.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["syc_0.json", "syc_5.json"]


def test_each_file_is_a_job_of_an_array(folder: Path, call_cli: RunCli) -> None:
    options = ("--model", "tiny", "--slurm-array", "--dry-run")
    shown = call_cli("sft", "syc_{0,5}.json", *SLURM, *options, cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert ran(shown.stdout) == [f"sft syc_{n}.json --model tiny --dataset-name syc_{n}" for n in (0, 5)]
    refused = call_cli("sft", "syc_*.json", *SLURM, *options, "--output-dir", "run", cwd=folder)
    assert refused.returncode == 2
    assert "syc_0.json and syc_5.json would be trained in run" in refused.stderr


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--slurm", "time=3"], "--slurm: is about a submission to Slurm"),
        (["--slurm-array"], "--slurm-array: is about a submission to Slurm"),
        ([*SLURM, "--fresh"], "--fresh: a job that goes back into the queue would start over"),
        ([*SLURM, "--master-port", "29500"], "--master-port: is for machines that are started by hand"),
        ([*SLURM, "--slurm-array", "--slurm", "nodes=2"], "each job of an array runs on one machine"),
        ([*SLURM, "--template", "qwne"], "qwne"),
        (SLURM, "--executor slurm: there is no sbatch here"),
    ],
)
def test_what_cannot_be_submitted_is_refused(folder: Path, call_cli: RunCli, options: list[str], what: str) -> None:
    done = call_cli("sft", "syc_0.json", "--model", "tiny", *options, cwd=folder, env={"PATH": str(folder)})
    assert done.returncode == 2, done.stdout
    assert what in done.stderr
    assert not (folder / "slurm").exists()


@pytest.mark.slow
def test_a_sweep_is_one_job_on_one_machine_and_on_several(folder: Path, run_cli: RunCli) -> None:
    write_sweep(folder, data="syc_{0,5}.json", sft={"model": "tiny"})
    options = ("sweep", "run", "sweep.yaml", "--jobs", "3", "--gpus-per-train", "4", *SLURM, "--dry-run")
    one = run_cli(*options, cwd=folder)
    assert one.returncode == 0, one.stderr
    assert ran(one.stdout) == ["sweep run sweep.yaml --jobs 3 --gpus-per-train 4 --executor local"]
    several = run_cli(*options, "--slurm", "nodes=3", cwd=folder)
    assert several.returncode == 0, several.stderr
    (command,) = ran(several.stdout)
    assert command == 'sweep run sweep.yaml --jobs 3 --gpus-per-train 4 --executor ray --ray-address "$address"'
    assert 'wait_for_nodes.py "$address" "$SLURM_NNODES"' in several.stdout
    refused = run_cli(*options, "--ray-address", "a:1", cwd=folder)
    assert refused.returncode == 2
    assert "--ray-address: is of a cluster that runs already" in refused.stderr


def test_each_variant_of_a_sweep_is_a_job_of_an_array(folder: Path, call_cli: RunCli) -> None:
    write_sweep(folder, data="syc_{0,5}.json", sft={"model": "tiny"})
    array = ("sweep", "run", "sweep.yaml", *SLURM, "--slurm-array", "--dry-run")
    shown = call_cli(*array, cwd=folder)
    assert shown.returncode == 0, shown.stderr
    commands = [" ".join(line.split()[:2]) for line in ran(shown.stdout)]
    assert commands == ["sft syc_0.json", "eval run", "sft syc_5.json", "eval run"]
    assert "  1) # " in shown.stdout
    write_sweep(folder, data="syc_{0,5}.json", base={"input": ["syc_0.json"], "model": "tiny"})
    refused = call_cli(*array, cwd=folder)
    assert refused.returncode == 2
    assert "the jobs of an array do not wait" in refused.stderr
    write_sweep(folder, data="syc_{0,5}.json", sft={"model": "tiny", "checkpoint_interval": 5}, checkpoints="every")
    refused = call_cli(*array, cwd=folder)
    assert refused.returncode == 2
    assert "it is known only later what is evaluated" in refused.stderr
