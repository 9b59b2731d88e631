"""Jobs go on by themselves, and how they stand is what is so, whatever was killed. No engine is needed for that."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from agent_sft.errors import UserError
from agent_sft.jobs.control import cancel, retry, wait
from agent_sft.jobs.listing import everything, find
from agent_sft.jobs.outputs import log_lines
from agent_sft.jobs.record import CANCELLED, lock_of
from agent_sft.jobs.status import job_in
from agent_sft.runs.lock import holder
from agent_sft.runs.processes import process_started
from tests.conftest import RunCli
from tests.jobs import WAITS, killed, running, submitted, until


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("AGENT_SFT_JOBS", raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_job_has_a_session_of_its_own_and_ends_as_its_command_does(tmp_path: Path) -> None:
    job = running(submitted(tmp_path, f"echo hello; {WAITS}; echo bye; exit 3"))
    assert job.pid is not None
    assert os.getsid(job.pid) == job.pid != os.getsid(0), "a terminal that closes ends its own session alone"
    (tmp_path / "go").touch()
    ended = wait(job.directory, timeout=300)
    assert (ended.status, ended.exit_code, ended.attempt, ended.slots) == ("failed", 3, 1, ("slot-0",))
    assert list(log_lines(job.directory)) == ["hello", "bye"]


def test_a_failed_job_is_tried_again_as_a_new_attempt(tmp_path: Path) -> None:
    job = submitted(tmp_path, "echo 'error: no luck' ; [ -e go ]")
    ended = wait(job.directory, timeout=300)
    assert (ended.status, ended.exit_code, ended.reason) == ("failed", 1, "exit code 1: no luck")
    (tmp_path / "go").touch()
    assert retry(job.directory).attempt == 2
    assert wait(job.directory, timeout=300).status == "succeeded"
    assert list(log_lines(job.directory, attempt=1)) == ["error: no luck"]
    with pytest.raises(UserError, match="cannot be tried again: it is succeeded"):
        retry(job.directory)
    with pytest.raises(UserError, match="no attempt 3\n  there are: 1, 2"):
        list(log_lines(job.directory, attempt=3))


def test_a_killed_supervisor_takes_its_job_along_and_frees_its_slot(tmp_path: Path) -> None:
    first = running(submitted(tmp_path, WAITS, name="first"))
    second, third = (submitted(tmp_path, "true", name=name) for name in ("second", "third"))
    assert (second.status, second.reason) == ("queued", "next")
    assert (third.status, third.reason) == ("queued", "1 before it")
    ended = killed(first)
    assert (ended.status, ended.exit_code) == ("failed", 1)
    assert ended.reason == "its supervisor was killed; what it had started went with it"
    assert [wait(job.directory, timeout=300).status for job in (second, third)] == ["succeeded", "succeeded"]


@pytest.mark.slow
def test_one_that_is_killed_while_it_waits_holds_nobody_up(tmp_path: Path) -> None:
    first = running(submitted(tmp_path, WAITS, name="first"))
    second, third = (submitted(tmp_path, "true", name=name) for name in ("second", "third"))
    assert killed(second).reason == "its supervisor was killed while it waited"
    assert job_in(third.directory).reason == "next"
    (tmp_path / "go").touch()
    assert wait(third.directory, timeout=300).status == "succeeded"
    assert wait(first.directory, timeout=300).status == "succeeded"


def test_a_job_is_cancelled_once_and_not_tried_again(tmp_path: Path) -> None:
    job = submitted(tmp_path, f"trap 'echo saved; exit 143' TERM; echo ready; {WAITS}")
    until(lambda: list(log_lines(job.directory)), "it says nothing")
    queued = submitted(tmp_path, "true", name="later")
    assert cancel(queued.directory).status == "cancelled"
    ended = cancel(job.directory)
    assert (ended.status, ended.exit_code) == ("cancelled", 143)
    assert list(log_lines(job.directory))[-1] == "saved", "it was asked, not killed"
    with pytest.raises(UserError, match="cannot be cancelled: it is cancelled"):
        cancel(job.directory)
    with pytest.raises(UserError, match="it is cancelled\n  it was ended on purpose"):
        retry(job.directory)
    assert submitted(tmp_path, "true").attempt == 2
    assert wait(job.directory, timeout=300).status == "succeeded"
    with pytest.raises(UserError, match="it is succeeded"):
        cancel(job.directory)


def test_what_does_not_heed_a_cancel_is_ended_by_a_second_one_at_once(tmp_path: Path) -> None:
    job = running(submitted(tmp_path, f"trap '' TERM; echo deaf; {WAITS}"))
    until(lambda: list(log_lines(job.directory)), "it says nothing")
    attempt = job.directory / "job" / "attempts" / "1"
    (attempt / CANCELLED).write_text(json.dumps({"at": "2026-01-01T00:00:00+00:00"}))
    with pytest.raises(UserError, match="is being cancelled already"):
        cancel(job.directory)
    assert cancel(job.directory, at_once=True).status == "cancelled"


def test_a_process_that_has_the_number_of_a_dead_supervisor_is_not_taken_for_it(tmp_path: Path) -> None:
    job = submitted(tmp_path, "true")
    wait(job.directory, timeout=300)
    (job.directory / "job" / "attempts" / "1" / "ended.json").unlink()
    me = {"pid": os.getpid(), "started": process_started(os.getpid()), "host": socket.gethostname(), "command": "x"}
    lock_of(job.directory).write_text(json.dumps(me))
    assert holder(lock_of(job.directory)) is None
    assert job_in(job.directory).status == "failed"
    with pytest.raises(UserError, match="cannot be cancelled"):
        cancel(job.directory)


def test_a_directory_has_one_job_at_a_time(tmp_path: Path) -> None:
    job = running(submitted(tmp_path, WAITS))
    with pytest.raises(UserError, match=f"the job {job.id} is running"):
        submitted(tmp_path, "true")
    (tmp_path / "go").touch()
    wait(job.directory, timeout=300)


def test_jobs_are_found_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for place in ("a/x", "b/x", "saves/m"):
        (tmp_path / place).mkdir(parents=True)
        made.append(submitted(tmp_path / place, "true"))
    assert [job.id for job in made] == ["x-job", "x-job-2", "m-job"]
    for job in made:
        wait(job.directory, timeout=300)
    monkeypatch.chdir(tmp_path / "a")
    assert {job.id for job in everything()} == {"x-job", "x-job-2", "m-job"}
    assert find("x-job-2").directory == made[1].directory
    assert find(str(made[1].directory)).id == "x-job-2"
    shutil.rmtree(tmp_path / "state")
    monkeypatch.chdir(tmp_path)
    assert [job.id for job in everything()] == ["m-job"], "in saves/ of this folder they are found without the index"
    shutil.rmtree(made[2].directory)
    with pytest.raises(UserError, match="there is no job 'm-job'"):
        find("m-job")


def test_the_id_of_a_job_whose_directory_is_gone_is_free_again(tmp_path: Path) -> None:
    job = submitted(tmp_path, "true")
    wait(job.directory, timeout=300)
    shutil.rmtree(job.directory)
    other = tmp_path / "elsewhere" / tmp_path.name
    other.mkdir(parents=True)
    again = submitted(other, "true")
    assert again.id == job.id
    wait(again.directory, timeout=300)


def test_a_job_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    (tmp_path / "first").mkdir()
    first = running(submitted(tmp_path / "first", WAITS))
    job = submitted(folder, "true", name="../job")
    folder.rmdir()
    (tmp_path / "first" / "go").touch()
    ended = wait(job.directory, timeout=300)
    assert (ended.status, ended.exit_code) == ("failed", 2)
    assert ended.reason is not None
    assert "the job cannot be started" in ended.reason
    with pytest.raises(UserError, match="the folder that the job runs in is gone"):
        retry(job.directory)
    wait(first.directory, timeout=300)


def test_the_commands(tmp_path: Path, call_cli: RunCli) -> None:
    job = submitted(tmp_path, "echo hello; exit 5")
    waited = call_cli("jobs", "wait", job.id)
    assert (waited.returncode, waited.stdout) == (5, f"{job.id}: failed (exit code 5)\n")
    assert json.loads(call_cli("jobs", "wait", job.id, "--json").stdout)["exit_code"] == 5
    assert call_cli("jobs", "logs", job.id, "-f").stdout == "hello\n"
    assert json.loads(call_cli("jobs", "logs", job.id, "--json").stdout) == {"lines": ["hello"]}
    assert "  status     failed (exit code 5)\n" in call_cli("jobs", "get", job.id).stdout
    value = json.loads(call_cli("jobs", "get", job.id, "--json").stdout)
    assert (value["status"], value["command"][0], value["attempt"]) == ("failed", "sh", 1)
    assert call_cli("jobs", "list").stdout.split()[:2] == [job.id, "failed"]
    assert json.loads(call_cli("jobs", "list", "--json").stdout) == [value]
    assert call_cli("jobs", "list", "--status", "running").stdout == "there are no jobs like this\n"
    assert call_cli("jobs", "artifacts", job.id).stdout == f"run: {job.directory}\n"
    assert json.loads(call_cli("jobs", "metrics", job.id, "--json").stdout) == []
    assert call_cli("jobs", "metrics", job.id).stdout == "nothing was measured yet\n"
    again = call_cli("jobs", "retry", job.id)
    assert (again.returncode, again.stdout.split(":")[0]) == (0, job.id)
    wait(job.directory, timeout=300)
    refused = call_cli("jobs", "cancel", job.id)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 2)
    for command in ("get", "wait", "logs", "artifacts", "metrics", "cancel", "retry"):
        missing = call_cli("jobs", command, f"{job.id}x")
        assert missing.returncode == 2
        assert f"there is no job '{job.id}x'" in missing.stderr
        assert f"did you mean '{job.id}'?" in missing.stderr
