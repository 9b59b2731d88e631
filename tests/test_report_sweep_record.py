"""What is known of a sweep: its record, and what its journal says has happened since that was written."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agent_sft.report.sweep.record import JOURNAL, read_record, write_record
from agent_sft.sweep.journal import Journal
from agent_sft.sweep.slots import Share
from tests.sweep_jobs import Sums

GPU = Share((1,), 0, on_gpus=True)


def test_what_happened_since_it_was_written_is_in_the_record(tmp_path: Path) -> None:
    sums = Sums(tmp_path)
    for name in ("train/a", "train/b", "train/c"):
        sums.add(name)
    sums.out.mkdir()
    plan = sums.plan()
    journal = Journal(plan, ["agent-sft"], print)

    def attempt(job: str, status: int) -> None:
        journal.starts(job, GPU, journal.new_log(job), "not done yet")
        journal.ends(job, status, 1)

    attempt("train/a", 1)
    journal.settle("train/a", "waiting", "it was killed: retry 1 of 2")
    journal.save(plan)
    before = read_record(sums.out)
    assert before == journal.record(plan)
    attempt("train/a", 0)
    journal.settle("train/a", "done", None)
    journal.starts("train/b", GPU, journal.new_log("train/b"), "not done yet")
    with (sums.out / JOURNAL).open("a") as stream:
        stream.write('{"at":"2030-01-01T00:00:00+00:00","event":"job is","job":"train/c","sta')  # it was killed
    found = read_record(sums.out)
    assert [job.state for job in found.jobs] == ["done", "running", "waiting"]
    for here, there in zip(found.jobs, journal.record(plan).jobs, strict=True):
        same = msgspec.structs.replace(here, seconds=there.seconds, gpu_seconds=there.gpu_seconds)
        assert same == there
    # The next run of the sweep goes on counting from there.
    again = Journal(plan, ["agent-sft"], print)
    assert again["train/a"].attempts == 2
    assert again["train/b"].devices == ["gpu 1"]


def test_time_is_counted_on(tmp_path: Path) -> None:
    sums = Sums(tmp_path)
    sums.add("train/a")
    sums.out.mkdir()
    Journal(sums.plan(), [], print).save(sums.plan())
    started = {"at": "2030-01-01T00:00:00+00:00", "event": "job started", "job": "train/a", "attempt": 1}
    ended = {"at": "2030-01-01T00:00:07+00:00", "event": "job ended", "job": "train/a", "seconds": 7.25, "gpus": 2}
    placed = {"at": "2030-01-01T00:00:01+00:00", "event": "job placed", "job": "train/a", "devices": ["m: gpu 3"]}
    (sums.out / JOURNAL).write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in (started, placed, ended)))
    (job,) = read_record(sums.out).jobs
    assert job.devices == ["m: gpu 3"]
    assert (job.seconds, job.gpu_seconds, job.finished) == (7.25, 14.5, ended["at"])


def test_of_a_record_that_does_not_say_what_it_accounts_for_all_is_taken(tmp_path: Path) -> None:
    sums = Sums(tmp_path)
    sums.add("train/a")
    sums.out.mkdir()
    journal = Journal(sums.plan(), [], print)
    journal.starts("train/a", GPU, journal.new_log("train/a"), "not done yet")
    journal.ends("train/a", 0, 1)
    record = msgspec.structs.replace(journal.record(sums.plan()), events=None)
    write_record(sums.out, record)
    assert read_record(sums.out) == record
