"""How a job of Slurm stands where Slurm cannot be asked: by what it has left, and it is said that nobody answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sft.config.slurm import SlurmConfig
from agent_sft.engines.slurm import queue
from agent_sft.errors import UserError
from agent_sft.files import write_json
from agent_sft.jobs.control import cancel
from agent_sft.jobs.on_slurm import slurm_need
from agent_sft.jobs.record import CANCELLED, ENDED, STARTED, SUBMITTED, Attempt, Spec, record_of
from agent_sft.jobs.status import job_in


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempt:
    """The first attempt at a job of Slurm, seen from a machine without Slurm's programs."""
    (tmp_path / "programs").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    queue.look_again()
    run = tmp_path / "run"
    Spec("a", "command", ("true",), str(tmp_path), slurm_need(SlurmConfig()), "2026-01-01T00:00:00+00:00").write(run)
    made = Attempt(record_of(run).new_attempt())
    write_json(made.path / SUBMITTED, {"at": "2026-01-01T00:00:00+00:00", "id": "7"})
    return made


def test_what_has_not_ended_lives_as_far_as_is_known(tmp_path: Path, attempt: Attempt) -> None:
    job = job_in(tmp_path / "run")
    unknown = "job 7 of Slurm; how it stands is not known: there is no squeue here"
    assert (job.status, job.reason) == ("queued", unknown)
    write_json(attempt.path / STARTED, {"at": "2026-01-01T00:00:01+00:00", "host": "n1", "slots": []})
    assert job_in(tmp_path / "run").status == "running"
    with pytest.raises(UserError, match="there is no scancel here\n  run it on a machine from which"):
        cancel(tmp_path / "run")
    assert attempt.fact(CANCELLED) is None, "its end was not asked for"


@pytest.mark.parametrize(("code", "status", "said"), [(0, "succeeded", None), (3, "failed", "exit code 3")])
def test_what_ended_by_itself_has_ended(
    tmp_path: Path, attempt: Attempt, code: int, status: str, said: str | None
) -> None:
    write_json(attempt.path / STARTED, {"at": "2026-01-01T00:00:01+00:00", "host": "n1", "slots": []})
    write_json(attempt.path / ENDED, {"at": "2026-01-01T00:00:02+00:00", "exit_code": code})
    job = job_in(tmp_path / "run")
    assert (job.status, job.exit_code, job.reason) == (status, code, said)
    with pytest.raises(UserError, match="cannot be cancelled"):
        cancel(tmp_path / "run")
