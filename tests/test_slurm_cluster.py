"""The scripts do on a real Slurm what they say: its controller and two nodes are started here, on loopback."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from agent_sft.config.slurm import SlurmConfig
from agent_sft.engines.slurm.script import Job, Task, array, every_machine, one_machine
from agent_sft.engines.slurm.submit import submit
from agent_sft.errors import UserError
from tests.conftest import RunCli
from tests.slurm_cluster import NEEDS_SLURM, SmallSlurm, started_slurm

pytestmark = [pytest.mark.slow, NEEDS_SLURM]

SAVES = """
import json, os, pathlib, signal, sys, time
def save(*_):
    print("saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
turn = int(os.environ.get("SLURM_RESTART_COUNT", 0))
print(json.dumps({"turn": turn, "node": os.environ.get("SLURM_NODEID"), "words": sys.argv[1:]}), flush=True)
if turn == 0:
    while True:
        time.sleep(0.05)
"""
"""A command that is not done in its first turn, saves when it is asked to, and ends in its second one."""


slurm = started_slurm


@pytest.fixture
def folder(slurm: SmallSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.env[name])
    place = tmp_path / "a folder, it's é"
    place.mkdir()
    return place


def submitted(job: Job, folder: Path) -> tuple[str, Path]:
    done = submit(job, folder)
    return done.id, folder / done.log


def said(log: Path) -> str:
    return log.read_text() if log.is_file() else ""


@pytest.mark.parametrize("machines", [1, 2])
def test_before_the_time_is_up_it_saves_and_its_next_turn_goes_on(
    slurm: SmallSlurm, folder: Path, machines: int
) -> None:
    make = one_machine if machines == 1 else every_machine
    config = SlurmConfig(time="1:00:00", nodes=machines, cpus_per_task=2, setup=("echo module loaded",))
    job, log = submitted(make(config, "saves", folder, [sys.executable, "-c", SAVES, "two words"]), folder)
    slurm.wait_for(lambda: said(log).count('{"turn": 0') == machines, log)
    # What Slurm sends by `--signal=B:USR1@300`.
    slurm.run("scancel", "--signal=USR1", "--batch", job)
    slurm.wait_for(lambda: slurm.starts_now(job) or 'turn": 1' in said(log), log)
    slurm.wait_for(lambda: slurm.state(job) == "COMPLETED", log)
    lines = said(log).splitlines()
    assert lines.count("saved") == machines and lines.count("module loaded") == 2
    turns = [json.loads(line) for line in lines if line.startswith('{"turn"')]
    assert [one["turn"] for one in turns] == [0] * machines + [1] * machines
    if machines == 2:
        assert sorted(one["node"] for one in turns) == ["0", "0", "1", "1"]
        assert {tuple(one["words"][:3]) for one in turns} == {("two words", "--nnodes", "2")}
        addresses = {tuple(one["words"][5:]) for one in turns}
        assert len(addresses) == 1 and {one["words"][4] for one in turns} == {"0", "1"}


def test_what_is_cancelled_stays_cancelled(slurm: SmallSlurm, folder: Path) -> None:
    job, log = submitted(one_machine(SlurmConfig(), "saves", folder, [sys.executable, "-c", SAVES]), folder)
    slurm.wait_for(lambda: '{"turn": 0' in said(log), log)
    slurm.run("scancel", job)
    slurm.wait_for(lambda: slurm.state(job) == "CANCELLED" and "saved" in said(log), log)


def test_each_job_of_an_array_does_its_part_up_to_what_fails(slurm: SmallSlurm, folder: Path) -> None:
    tasks = [
        Task("a", (["touch", "a 1"], ["touch", "a 2"])),
        Task("b", (["touch", "b 1"], ["false"], ["touch", "b 2"])),
    ]
    done = submit(array(SlurmConfig(at_once=1), "parts", folder, tasks), folder)
    log = folder / done.log.replace("*", "1")
    slurm.wait_for(lambda: slurm.state(f"{done.id}_0") == "COMPLETED" and slurm.state(f"{done.id}_1") == "FAILED", log)
    assert sorted(path.name for path in folder.glob("? ?")) == ["a 1", "a 2", "b 1"]


def test_what_slurm_refuses_is_told_in_its_words(folder: Path) -> None:
    with pytest.raises(UserError, match="Slurm refuses it: invalid partition specified: nowhere"):
        submit(one_machine(SlurmConfig(partition="nowhere"), "x", folder, ["true"]), folder)


def test_a_training_is_submitted_and_trained(slurm: SmallSlurm, folder: Path, call_cli: RunCli, repo: Path) -> None:
    data = repo / "examples" / "data" / "telecom_small_24.json"
    command = ["sft", data, "--model", "tiny", "--steps", "1", "--output-dir", "run"]
    options = ["--executor", "slurm", "--slurm", "cpus_per_task=2", "--slurm", "time=10"]
    shown = call_cli(*command, *options, "--dry-run", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert not any(folder.iterdir())
    done = call_cli(*command, *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip()
    (script,) = (folder / "slurm").glob("*.sbatch")
    assert script.read_text() == shown.stdout
    log = script.with_name(f"{script.stem}-{job}.log")
    assert f"tail -F {os.path.relpath(log, folder)}" in done.stderr
    slurm.wait_for(lambda: slurm.state(job) not in ("PENDING", "RUNNING", "COMPLETING"), log)
    assert slurm.state(job) == "COMPLETED", said(log)
    assert "trained: run" in said(log)
