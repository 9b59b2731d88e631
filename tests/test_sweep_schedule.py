"""A sweep does what is not done, all that can at once, and tells what failed without letting it stop the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from agent_sft.errors import UserError
from agent_sft.report.sweep.record import SweepRecord, read_record
from agent_sft.runs.lock import run_lock
from agent_sft.runs.processes import Interrupted
from agent_sft.sweep.executor import LocalExecutor
from agent_sft.sweep.outside import Outside
from agent_sft.sweep.schedule import Scheduler, run_sweep
from agent_sft.sweep.slots import Capacity
from tests.sweep_jobs import Said, Sums, attempts, states


@pytest.fixture
def sums(tmp_path: Path) -> Sums:
    return Sums(tmp_path)


def two_variants(sums: Sums) -> Sums:
    sums.add("prepare/0")
    for name in ("a", "b"):
        sums.add(f"train/{name}", after=["prepare/0"])
        sums.add(f"evaluate/{name}/final/sums", after=[f"train/{name}"])
    return sums


@pytest.mark.slow
def test_everything_is_done_in_order_and_written_down(sums: Sums) -> None:
    record, said = two_variants(sums).run()
    assert set(states(record).values()) == {"done"}
    assert set(attempts(record).values()) == {1}
    assert read_record(sums.out).jobs == record.jobs
    assert record.finished is not None
    assert sums.reports >= 1, "how often depends on how long one takes"
    started = {job.id: job.started for job in record.jobs}
    assert started["prepare/0"] <= started["train/a"] <= started["evaluate/a/final/sums"]  # type: ignore[operator]
    assert all((sums.out / str(job.log)).is_file() for job in record.jobs)
    assert "to do {'prepare': 1, 'train': 2, 'evaluate': 2}, done 0" in said
    events = [json.loads(line)["event"] for line in (sums.out / "events.jsonl").read_text().splitlines()]
    assert events[0] == "sweep started"
    assert events[-1] == "sweep ended"


def test_what_is_done_is_not_started_again(sums: Sums) -> None:
    first, _ = two_variants(sums).run()
    reports = sums.reports
    (sums.out / "report").mkdir()
    (sums.out / "report" / "index.html").touch()
    again, said = sums.run()
    assert attempts(again) == attempts(first)
    assert again.finished == first.finished
    assert sums.reports == reports
    assert "starts" not in said
    sums.made("evaluate/b/final/sums").unlink()
    third, said = sums.run()
    assert [name for name, number in attempts(third).items() if number > 1] == ["evaluate/b/final/sums"]
    assert "evaluate/b/final/sums: starts (not done yet)" in said


@pytest.mark.slow
def test_jobs_run_at_once_as_far_as_there_is_room(sums: Sums) -> None:
    slow = "import pathlib, time; time.sleep(0.4); pathlib.Path({!r}).touch()"
    for name in ("a", "b", "c", "d"):
        sums.add(f"train/{name}", slow.format(str(sums.made(f"train/{name}"))))
    most = 0

    def look(record: SweepRecord) -> None:
        nonlocal most
        most = max(most, list(states(record).values()).count("running"))

    sums.run(look, resources={"cores": 3})
    assert most == 3
    for name in ("a", "b", "c", "d"):
        sums.made(f"train/{name}").unlink()
    most = 0
    sums.run(look, resources={"cores": 3, "jobs": 1})
    assert most == 1


def test_evaluations_come_before_further_trainings_when_room_is_short(sums: Sums) -> None:
    for name in ("a", "b"):
        slow = f"import pathlib, time; time.sleep(0.3); pathlib.Path({str(sums.made(f'train/{name}'))!r}).touch()"
        sums.add(f"train/{name}", slow)
        path = str(sums.made(f"evaluate/{name}/final/sums"))
        sums.add(
            f"evaluate/{name}/final/sums",
            f"import pathlib, time; time.sleep(0.3); pathlib.Path({path!r}).touch()",
            after=[f"train/{name}"],
        )
    sums.run(resources={"cores": 1})
    events = map(json.loads, (sums.out / "events.jsonl").read_text().splitlines())
    order = [event["job"] for event in events if event["event"] == "job started"]
    assert order == ["train/a", "evaluate/a/final/sums", "train/b", "evaluate/b/final/sums"]


def test_a_job_knows_its_share(sums: Sums) -> None:
    text = f"import os, pathlib; pathlib.Path({str(sums.made('train/a'))!r}).write_text(os.environ['OMP_NUM_THREADS'])"
    sums.add("train/a", text, cores=2)
    record, _ = sums.run()
    assert sums.made("train/a").read_text() == "2"
    assert record.jobs[0].devices == ["cores 2"]


def test_more_than_there_is_is_refused_before_anything_starts(sums: Sums) -> None:
    sums.add("train/a", cores=3)
    with pytest.raises(UserError, match="train/a wants 3 cores, there are 2"):
        sums.run()


def test_broken_data_fails_at_once_and_others_go_on(sums: Sums) -> None:
    two_variants(sums)
    sums.add("train/a", "import sys; print('error: a.json, row 3: no conversations'); sys.exit(2)", after=["prepare/0"])
    record, said = sums.run()
    assert states(record) == {
        "prepare/0": "done",
        "train/a": "failed",
        "evaluate/a/final/sums": "skipped",
        "train/b": "done",
        "evaluate/b/final/sums": "done",
    }
    failed = record.jobs[1]
    assert (failed.attempts, failed.reason) == (1, "a.json, row 3: no conversations")
    assert record.jobs[2].reason == "train/a failed"
    assert "  | error: a.json, row 3: no conversations" in said
    assert record.finished is not None


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("print('OSError: [Errno 98] Address already in use'); sys.exit(1)", "a port was taken"),
        ("print('error: the training failed (exit code 137)'); sys.exit(1)", "it was killed"),
        ("print('requests.exceptions.ConnectionError: no route'); sys.exit(1)", "a service could not be reached"),
    ],
)
def test_what_passes_is_tried_again(sums: Sums, text: str, cause: str) -> None:
    count = sums.folder / "count"
    sums.add(
        "train/a",
        f"""
        import os, pathlib, sys
        count = pathlib.Path({str(count)!r})
        count.write_text(str(int(count.read_text()) + 1 if count.exists() else 1))
        if count.read_text() != "3":
            {text}
        pathlib.Path({str(sums.made("train/a"))!r}).touch()
        """,
    )
    record, said = sums.run()
    assert (states(record), attempts(record)) == ({"train/a": "done"}, {"train/a": 3})
    assert f"({cause}); retry 2 of 2" in said


def test_retries_end(sums: Sums) -> None:
    sums.add("train/a", "import os; os.kill(os.getpid(), 9)")
    record, _ = sums.run(retries=1)
    assert (states(record), attempts(record)) == ({"train/a": "failed"}, {"train/a": 2})


@pytest.mark.parametrize(
    "text",
    [
        "raise MemoryError",
        "print('torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB'); sys.exit(1)",
        "print('OSError: [Errno 28] No space left on device'); sys.exit(1)",
        "raise ValueError('no such template')",
    ],
)
def test_what_stays_is_not_tried_again(sums: Sums, text: str) -> None:
    sums.add("train/a", f"import sys\n{text}")
    record, _ = sums.run()
    assert attempts(record) == {"train/a": 1}


def test_a_trainer_that_gets_no_memory_is_told_of(sums: Sums) -> None:
    sums.add(
        "train/a",
        """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (300_000_000, 300_000_000))
        weights = bytearray(2_000_000_000)
        """,
    )
    sums.add("train/b")
    record, said = sums.run()
    assert states(record) == {"train/a": "failed", "train/b": "done"}
    assert record.jobs[0].reason == "MemoryError"
    assert "  | MemoryError" in said


def test_a_job_that_ends_well_and_left_nothing_has_failed(sums: Sums) -> None:
    sums.add("train/a", "print('all is well')")
    record, _ = sums.run()
    assert states(record) == {"train/a": "failed"}
    assert "it ended well and is not done" in str(record.jobs[0].reason)


def test_a_signal_stops_all_and_the_same_command_goes_on(sums: Sums) -> None:
    two_variants(sums)
    sums.add("train/a", "import time; time.sleep(60)", after=["prepare/0"])
    said = Said()

    def stop(record: SweepRecord) -> None:
        if states(record)["train/a"] == "running":
            said.stop.number, said.stop.count = 15, 1

    said._show = stop
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(Interrupted) as stopped:
        _run(sums, said)
    assert stopped.value.exit_code == 143
    assert set(psutil.Process().children(recursive=True)) <= before
    record = read_record(sums.out)
    assert states(record)["train/a"] == "waiting"
    assert record.finished is None
    two_variants(sums)
    again, _ = sums.run()
    assert set(states(again).values()) == {"done"}
    assert attempts(again)["train/a"] == 2
    assert attempts(again)["prepare/0"] == 1


def test_a_second_sweep_is_told_who_runs_the_first(sums: Sums) -> None:
    sums.add("train/a", "import time; time.sleep(60)")
    said = Said()

    def second(record: SweepRecord) -> None:
        with pytest.raises(UserError, match="held by process"):
            _run(sums, Said())
        said.stop.number, said.stop.count = 2, 1

    said._show = second
    with pytest.raises(Interrupted):
        _run(sums, said)


def test_a_report_that_cannot_be_made_stops_nothing(sums: Sums) -> None:
    two_variants(sums)

    def refuse(_folder: Path, _complete: bool) -> None:
        raise UserError("the font is missing")

    said = Said()
    record = _run(sums, said, outside=replace(sums.outside(), write_report=refuse))
    assert set(states(record).values()) == {"done"}
    assert "the report cannot be made: the font is missing" in said.text


def _run(sums: Sums, said: Said, outside: Outside | None = None) -> SweepRecord:
    chosen = outside or sums.outside()
    return run_sweep(sums.plan(), reporter=said, stop=said.stop, command=[], outside=chosen, retry_seconds=0.05)


def test_gpus_of_an_executor_are_shared_out_among_its_jobs(sums: Sums) -> None:
    for name in ("a", "b", "c", "d"):
        path = str(sums.made(f"train/{name}"))
        text = f"""
        import os, pathlib, time
        time.sleep(0.3)
        pathlib.Path({path!r}).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
        """
        sums.add(f"train/{name}", text, gpus=2)
    said, most = Said(), 0

    def look(record: SweepRecord) -> None:
        nonlocal most
        most = max(most, list(states(record).values()).count("running"))

    said._show = look
    plan = sums.plan()
    with run_lock(plan.out / ".lock") as lock:
        executor = LocalExecutor(Capacity((0, 2, 4, 6, 7), 1), lock)
        record = Scheduler(plan, said, said.stop, [], sums.outside(), executor, 0.05).run()
    seen = [sums.made(f"train/{name}").read_text() for name in ("a", "b", "c", "d")]
    assert most == 2
    assert set(seen) == {"0,2", "4,6"}
    assert record.jobs[0].devices == ["gpu 0", "gpu 2"]
    assert all(job.gpu_seconds == pytest.approx(2 * job.seconds, abs=0.01) for job in record.jobs)
