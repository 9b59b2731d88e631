"""A sweep from another terminal: how it stands, what its jobs say, its end, and what can go."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_sft.report.sweep.record import read_record
from agent_sft.runs.lock import holder, is_held
from tests.conftest import ROOT, RunCli
from tests.sweep_jobs import Sums, pairs, states


@pytest.fixture
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with one sweep in `sweeps/`."""
    (tmp_path / "sweeps").mkdir()
    return tmp_path


def small(folder: Path) -> Sums:
    """A sweep with a variant that fails."""
    sums = Sums(folder)
    sums.add("train/a")
    sums.add("evaluate/a/final/sums", after=["train/a"])
    sums.add("train/b", "print('loading', flush=True); raise SystemExit('error: b.json, row 1: empty')")
    sums.add("evaluate/b/final/sums", after=["train/b"])
    return sums


def linked(place: Path, sums: Sums) -> None:
    (place / "sweeps" / "sums").symlink_to(sums.out)


@pytest.mark.slow
def test_how_a_sweep_stands_after_it_ended(run_cli: RunCli, place: Path) -> None:
    sums = small(place / "work")
    sums.run()
    linked(place, sums)
    done = run_cli("sweep", "status", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "sweeps/sums: ended 20" in done.stdout
    rows = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if line[:2] in ("a ", "b ")}
    assert rows == {"a": "done", "b": "failed"}
    assert "train/b: failed: b.json, row 1: empty; log sweeps/sums/jobs/train.b/1.log" in done.stdout
    assert "evaluate/b/final/sums: skipped: train/b failed" in done.stdout
    told = json.loads(run_cli("sweep", "status", "--json", sums.out, cwd=place).stdout)
    assert told["driver"] is None
    assert len(told["jobs"]) == 4
    logs = run_cli("sweep", "logs", cwd=place)
    assert logs.stdout.splitlines() == ["loading", "error: b.json, row 1: empty"]
    unknown = run_cli("sweep", "logs", "train/c", cwd=place)
    assert unknown.returncode == 2
    assert "there is no job 'train/c'" in unknown.stderr
    assert "does not run" in run_cli("sweep", "stop", cwd=place).stdout


def test_which_sweep_is_meant(run_cli: RunCli, place: Path) -> None:
    none = run_cli("sweep", "status", cwd=place)
    assert none.returncode == 2
    assert "there is no sweep here" in none.stderr
    sums = small(place / "work")
    sums.run()
    linked(place, sums)
    (place / "sums.yaml").write_text("name: sums\n")
    by_file = run_cli("sweep", "status", "sums.yaml", cwd=place)
    assert by_file.stdout == run_cli("sweep", "status", cwd=place).stdout
    (place / "sweeps" / "more").symlink_to(sums.out)
    several = run_cli("sweep", "status", cwd=place)
    assert several.returncode == 2
    assert "there are 2 sweeps" in several.stderr
    assert run_cli("sweep", "status", "more", cwd=place).returncode == 0


@pytest.fixture
def running(place: Path) -> Iterator[subprocess.Popen[str]]:
    """A sweep that runs in a process of its own and takes long."""
    linked(place, pairs(place / "work", 60))
    command = [sys.executable, "-m", "tests.sweep_jobs", str(place / "work"), "60"]
    driver = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    record = place / "work" / "sweep" / "sweep.json"
    deadline = time.monotonic() + 60
    while not (record.exists() and states(read_record(record.parent))["train/a"] == "running"):
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield driver
    driver.kill()
    driver.communicate()


@pytest.mark.slow
def test_a_running_sweep_is_seen_and_stopped_from_elsewhere(
    run_cli: RunCli, place: Path, running: subprocess.Popen[str]
) -> None:
    told = run_cli("sweep", "status", cwd=place)
    assert f"runs: process {running.pid} on" in told.stdout
    refused = run_cli("sweep", "clean", "--yes", cwd=place)
    assert refused.returncode == 2
    assert "agent-sft sweep stop" in refused.stderr
    stopped = run_cli("sweep", "stop", cwd=place)
    assert stopped.returncode == 0, stopped.stderr
    assert "stopped; the same command goes on" in stopped.stdout
    assert not is_held(place / "work" / "sweep" / ".lock")
    assert running.wait(10) == 143
    told = run_cli("sweep", "status", cwd=place)
    assert "does not run; it was stopped or killed" in told.stdout


@pytest.mark.slow
def test_logs_are_followed_until_the_sweep_ends(run_cli: RunCli, place: Path, running: subprocess.Popen[str]) -> None:
    follower = subprocess.Popen(
        [sys.executable, "-P", "-m", "agent_sft", "sweep", "logs", "-f"], cwd=place, stdout=subprocess.PIPE, text=True
    )
    record = read_record(place / "work" / "sweep")
    job = next(job for job in record.jobs if job.state == "running" and job.kind == "train")
    with (place / "work" / "sweep" / str(job.log)).open("a") as log:
        log.write("half the way\n")
    assert follower.stdout is not None
    assert follower.stdout.readline() == f"{job.id} | half the way\n"
    known = holder(place / "work" / "sweep" / ".lock")
    assert known is not None
    assert known.pid == running.pid
    running.terminate()
    follower.communicate(timeout=60)
    assert follower.returncode == 0


def test_what_can_go_goes(run_cli: RunCli, place: Path) -> None:
    sums = small(place / "work")
    sums.run()
    sums.run()
    linked(place, sums)
    aside = sums.out / "evaluations" / "a" / "final" / "sums" / "set-aside" / "1"
    aside.mkdir(parents=True)
    (aside / "results.jsonl").write_bytes(b"x" * 2_000_000)
    kept = sums.out / "evaluations" / "a" / "final" / "sums" / "results.jsonl"
    kept.write_text("{}")
    shown = run_cli("sweep", "clean", "--dry-run", cwd=place)
    assert "2.0 MB would be freed" in shown.stdout
    assert aside.is_dir()
    assert run_cli("sweep", "clean", "--yes", cwd=place).returncode == 0
    assert not aside.exists()
    assert kept.is_file()
    assert [path.name for path in (sums.out / "jobs" / "train.b").iterdir()] == ["2.log"]
    assert "nothing to take away" in run_cli("sweep", "clean", cwd=place).stdout
