"""Sweeps, plans and servers among the jobs: as they stand, waited for and ended there too."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent_sft.config.planning import PlanConfig
from agent_sft.engines.served import known_by_address
from agent_sft.jobs.listing import everything, find
from agent_sft.planning.folder import PLANS, PlanFolder
from agent_sft.report.sweep.record import RECORD, read_record, write_record
from agent_sft.runs.lock import run_lock
from agent_sft.stages.serving_control import Control
from agent_sft.stages.serving_registry import registered
from tests.conftest import RunCli
from tests.sweeps import job, record

HOLDS = """
import signal, sys
from pathlib import Path
from agent_sft.runs.lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("holds", flush=True)
    signal.pause()
"""


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep whose jobs are done."""
    folder = tmp_path / "sweeps" / "s"
    write_record(folder, record([job("train/a", "train", seconds=1.0)], []))
    return folder


@pytest.fixture
def holding(sweep: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the sweep as one that runs it does, and ends when it is asked to."""
    command = [sys.executable, "-c", HOLDS, str(sweep / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        yield process
        process.kill()


def changed(sweep: Path, **changes: object) -> None:
    write_record(sweep, msgspec.structs.replace(read_record(sweep), **changes))


def test_a_sweep_stands_as_its_lock_and_its_jobs_say(sweep: Path, call_cli: RunCli) -> None:
    assert (find("sweep:s").status, find("sweep:s").reason) == ("succeeded", "1 of 1 jobs done")
    with run_lock(sweep / ".lock"):
        assert find("sweep:s").status == "running"
    changed(sweep, finished=None)
    assert find("sweep:s").reason == "1 of 1 jobs done; it was stopped or killed, the same command goes on"
    failed = msgspec.structs.replace(job("train/a", "train", seconds=1.0), state="failed", reason="no luck")
    changed(sweep, jobs=[failed])
    waited = call_cli("jobs", "wait", "sweep:s")
    assert (waited.returncode, waited.stdout) == (1, "sweep:s: failed (0 of 1 jobs done; train/a: no luck)\n")
    (sweep / RECORD).write_text("{")
    assert everything()[0].status == "failed", "a damaged one keeps nobody from seeing the others"


@pytest.mark.slow
def test_a_sweep_is_ended_and_waited_for(
    sweep: Path, holding: subprocess.Popen[str], call_cli: RunCli, run_cli: RunCli
) -> None:
    changed(sweep, finished=None)
    waits = threading.Thread(target=lambda: codes.append(run_cli("jobs", "wait", "sweep:s").returncode))
    codes: list[int] = []
    waits.start()
    assert call_cli("jobs", "cancel", "sweep:s").stdout == "sweep:s: stopped\n"
    assert holding.wait() == -signal.SIGTERM
    waits.join()
    assert codes == [1]
    again = call_cli("jobs", "cancel", "sweep:s")
    assert (again.returncode, "cannot be cancelled: it is failed" in again.stderr) == (2, True)
    logs = call_cli("jobs", "logs", "sweep:s")
    assert (logs.returncode, "see `agent-sft sweep status | logs | report`" in logs.stderr) == (2, True)


def test_a_plan_that_waits_for_an_approval_is_queued() -> None:
    plan = PlanFolder(PLANS / "p")
    plan.keep_config(PlanConfig(data="data.json", name="p", out=plan.path))
    assert everything() == [], "it was not begun"
    plan.stands("plan", "waiting for approval")
    assert (find("plan:p").status, find("plan:p").reason) == ("queued", "waiting for approval (plan)")
    plan.stands("search", "running")
    assert (find("plan:p").status, find("plan:p").reason) == ("failed", "stopped (search): killed")
    plan.stands("report", "done")
    assert find("plan:p").status == "succeeded"


def test_servers_and_deployments_are_seen_and_have_no_end(call_cli: RunCli) -> None:
    model = known_by_address("m", "http://127.0.0.1:1/v1", "secret-key")
    with registered("up", supervised=True) as (served, _lock), registered("plain"):
        assert find("server:plain").reason == "starting"
        served.write(Control(model, base_name="m", base_folder=Path("m"), highest_rank=0, adapters={}))
        listed = call_cli("jobs", "list", "--json")
        assert [one["id"] for one in json.loads(listed.stdout)] == ["server:plain", "deployment:up"]
        assert "secret-key" not in listed.stdout
        assert find("deployment:up").reason == "ready, http://127.0.0.1:1/v1"
        waited = call_cli("jobs", "wait", "deployment:up")
        assert (waited.returncode, "has no end of its own" in waited.stderr) == (2, True)
    assert everything() == []


def test_a_name_that_is_nearly_one_of_them(sweep: Path, call_cli: RunCli) -> None:
    missing = call_cli("jobs", "get", "sweeps:s")
    assert (missing.returncode, "did you mean 'sweep:s'?" in missing.stderr) == (2, True)
