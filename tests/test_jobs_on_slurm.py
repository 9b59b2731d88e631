"""Jobs in a real Slurm of two nodes: queued, placed, asked to save, put back, cancelled, lost, tried again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agent_sft.config.slurm import SlurmConfig
from agent_sft.errors import UserError
from agent_sft.jobs.control import cancel, retry, wait
from agent_sft.jobs.listing import everything
from agent_sft.jobs.on_slurm import slurm_need
from agent_sft.jobs.outputs import log_lines
from agent_sft.jobs.status import Job, job_in
from agent_sft.jobs.submitting import submit
from tests.conftest import RunCli
from tests.jobs import until
from tests.slurm_cluster import NEEDS_SLURM, SmallSlurm, reach, started_slurm

pytestmark = [pytest.mark.slow, NEEDS_SLURM]

slurm = started_slurm
WORKS = "echo works; while [ ! -e go ]; do sleep 0.05; done; echo done"
SAVES = f"trap 'echo saved; exit 143' TERM; {WORKS}"
"""A shell command that saves when it is asked to, and ends well once there is a file `go` in its folder."""


@pytest.fixture
def folder(slurm: SmallSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    reach(slurm, monkeypatch, tmp_path / "state")
    place = tmp_path / "a folder, 100% é"
    place.mkdir()
    return place


def submitted(folder: Path, script: str = SAVES, *, name: str = "job", config: SlurmConfig | None = None) -> Job:
    """Submit a shell script as the job in `folder / name`; it runs in `folder`."""
    need = slurm_need(config or SlurmConfig())
    return submit(folder / name, "command", ["sh", "-c", script], need, folder=folder)


def works(job: Job, turn: int = 1) -> Job:
    """Wait until a job's command runs, for the n-th time."""
    until(lambda: list(log_lines(job.directory)).count("works") == turn, f"{job.id} does not begin")
    until(lambda: str(job_in(job.directory).reason).endswith((" on n1", " on n2")), "Slurm does not say where")
    return job_in(job.directory)


def number(job: Job) -> str:
    """Slurm's number of a job."""
    return job_in(job.directory).slots[0].split()[1]


def test_before_its_time_is_up_it_saves_waits_and_goes_on_within_the_same_attempt(
    slurm: SmallSlurm, folder: Path
) -> None:
    job = works(submitted(folder))
    assert (job.status, job.slots) == ("running", (job.reason,))
    # What Slurm sends by `--signal=B:USR1@300`.
    slurm.run("scancel", "--signal=USR1", "--batch", number(job))
    until(lambda: job_in(job.directory).status == "queued", "it does not go back")
    assert "its next turn goes on" in str(job_in(job.directory).reason)
    slurm.wait_for(lambda: slurm.starts_now(number(job)))
    works(job, turn=2)
    (folder / "go").touch()
    ended = wait(job.directory)
    assert (ended.status, ended.exit_code, ended.attempt) == ("succeeded", 0, 1)
    lines = [line for line in log_lines(job.directory) if line in ("works", "saved", "done")]
    assert lines == ["works", "saved", "works", "done"]


def test_a_cancelled_job_saves_and_one_that_waits_leaves_the_queue(slurm: SmallSlurm, folder: Path) -> None:
    waits = submitted(folder, name="waits", config=SlurmConfig(sbatch=("--hold",)))
    assert waits.status == "queued"
    assert "JobHeldUser" in str(waits.reason)
    assert cancel(waits.directory).status == "cancelled"
    job = works(submitted(folder))
    ended = cancel(job.directory)
    assert (ended.status, ended.exit_code) == ("cancelled", 143)
    assert "saved" in list(log_lines(job.directory))
    deaf = works(submitted(folder, f"trap '' TERM; {WORKS}", name="deaf"))
    assert cancel(deaf.directory, at_once=True).status == "cancelled"
    assert {one.id: one.status for one in everything()} == {one.id: "cancelled" for one in (waits, job, deaf)}
    assert not slurm.run("squeue", "--noheader", "--states=PENDING,RUNNING")


def test_what_slurm_ended_is_told_and_tried_again(slurm: SmallSlurm, folder: Path) -> None:
    job = works(submitted(folder, config=SlurmConfig(requeue=False)))
    node = job.slots[0].rpartition(" ")[2]
    slurm.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    lost = wait(job.directory)
    slurm.take_back(node)
    assert (lost.status, lost.reason) == ("failed", "its machine failed (NODE_FAIL)")
    retry(job.directory)
    again = works(job)
    assert again.attempt == 2
    slurm.run("scancel", number(again))
    ended = wait(job.directory)
    assert (ended.status, ended.reason) == ("cancelled", "ended by scancel")
    failed = wait(submitted(folder, "echo 'error: no luck'; exit 3", name="fails").directory)
    assert (failed.status, failed.exit_code, failed.reason) == ("failed", 3, "exit code 3: no luck")


def test_several_machines_run_the_same_and_are_asked_to_save_at_the_same_time(slurm: SmallSlurm, folder: Path) -> None:
    tree = """
import signal, subprocess, sys, time
trainer = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
def save(*_):
    print("trainer", trainer.poll(), flush=True)
    trainer.kill()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("works", flush=True)
time.sleep(600)
"""
    command = [sys.executable, "-c", tree]
    need = slurm_need(SlurmConfig(nodes=2))
    job = submit(folder / "job", "command", command, need, folder=folder)
    until(lambda: list(log_lines(job.directory)).count("works") == 2, "it does not begin")
    assert cancel(job.directory).status == "cancelled"
    assert [line for line in log_lines(job.directory) if line.startswith("trainer")] == ["trainer None"] * 2


def test_what_slurm_refuses_leaves_nothing(folder: Path, call_cli: RunCli, repo: Path) -> None:
    data = repo / "examples" / "data" / "telecom_small_24.json"
    command = ["train", "sft", data, "--model", "tiny", "--steps", "1", "--executor", "slurm"]
    for key, said in (("partition=nowhere", "invalid partition"), ("nodes=9", "Slurm has no such machines")):
        refused = call_cli(*command, "--slurm", key, cwd=folder)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert said in refused.stderr
        assert not any(folder.iterdir())
    with pytest.raises(UserError, match="no such machines"):
        submitted(folder, config=SlurmConfig(cpus_per_task=64))
    assert not everything()
    shown = call_cli(*command, "--dry-run", cwd=folder)
    assert "#SBATCH --job-name=tiny-telecom_small_24\n" in shown.stdout
    assert "-m agent_sft.jobs.in_allocation " in shown.stdout
    assert not any(folder.iterdir())
