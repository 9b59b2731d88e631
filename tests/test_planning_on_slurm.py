"""A plan in a real Slurm: it is told how it stands, submitted again by its approval, and ended well."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sft.config.planning import PlanConfig
from agent_sft.config.slurm import SlurmConfig
from agent_sft.engines.slurm.script import one_machine
from agent_sft.engines.slurm.submit import submit
from agent_sft.jobs.others import find_other, stop_other, wait_for_other
from agent_sft.planning.folder import PLANS, PlanFolder
from agent_sft.planning.on_slurm import submission_of, submitted
from tests.conftest import RunCli
from tests.jobs import until
from tests.slurm_cluster import NEEDS_SLURM, SmallSlurm, reach, started_slurm

pytestmark = [pytest.mark.slow, NEEDS_SLURM]

slurm = started_slurm
SAVES = "trap 'echo saved; exit 143' TERM; echo works; while true; do sleep 0.05; done"


@pytest.fixture
def folder(slurm: SmallSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    reach(slurm, monkeypatch, tmp_path / "state")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_plan_is_queued_runs_and_is_ended_as_its_job_is(slurm: SmallSlurm, folder: Path) -> None:
    config = PlanConfig(data="demos.jsonl", name="demos", out=PLANS / "demos")
    plan, asked = PlanFolder(config.out), SlurmConfig()
    done = submit(one_machine(asked, "demos", folder, ["sh", "-c", SAVES]), folder)
    submitted(plan, config, asked, done)
    log = folder / done.log
    until(lambda: log.is_file() and "works" in log.read_text(), "it does not begin")
    found = find_other("plan:demos")
    assert found is not None
    assert (found.status, found.reason) == ("running", f"job {done.id} of Slurm: see {done.log}")
    stop_other(found)
    assert "saved" in log.read_text()
    ended = wait_for_other(found)
    assert (ended.status, ended.exit_code) == ("failed", 1)


def test_what_is_approved_is_submitted_again_as_before(slurm: SmallSlurm, folder: Path, run_cli: RunCli) -> None:
    (folder / "demos.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    held = ("--executor", "slurm", "--slurm", "sbatch=--hold", "--slurm", "mem=100M")
    first = run_cli("plan", "demos.jsonl", "--model", "tiny", *held)
    assert first.returncode == 0, first.stderr
    script = folder / "slurm" / "demos.sbatch"
    assert script.read_text().endswith(" plan demos.jsonl --model tiny --no-deploy --executor local\n")
    found = find_other("plan:demos")
    assert found is not None
    assert (found.status, found.reason) == ("queued", f"job {first.stdout.strip()} of Slurm (JobHeldUser)")
    plan = PlanFolder(PLANS / "demos")
    (plan.path / "plan.json").write_text("{}")
    again = run_cli("plan", "approve", "demos")
    assert again.returncode == 2
    assert f"job {first.stdout.strip()} of Slurm carries it out already" in again.stderr
    stop_other(found)
    approved = run_cli("plan", "approve", "demos", "--slurm", "time=60")
    assert approved.returncode == 0, approved.stderr
    text = script.read_text()
    assert text.endswith(" plan approve demos --executor local\n")
    assert {"#SBATCH --hold", "#SBATCH --mem=100M", "#SBATCH --time=60"} <= set(text.splitlines())
    known = submission_of(plan)
    assert known is not None
    assert known.id == approved.stdout.strip()
    assert f"job {known.id} of Slurm waits (JobHeldUser)" in run_cli("plan", "status").stdout
    slurm.run("scancel", known.id)
