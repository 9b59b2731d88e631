"""What the tests of jobs share: jobs whose command is no training, and looking at their processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from agent_sft.jobs.status import Job, job_in
from agent_sft.jobs.submitting import machine_need, submit
from tests.serving import all_gone, family_of

SECONDS = 300.0
WAITS = "while [ ! -e go ]; do sleep 0.02; done"
"""A shell command that ends well once there is a file `go` in its folder."""


def submitted(folder: Path, script: str, *, name: str = "job", slots: int | None = None) -> Job:
    """Submit a shell script as the job in `folder / name`; it runs in `folder`."""
    return submit(folder / name, "command", ["sh", "-c", script], machine_need(None, slots), folder=folder)


def until(holds: Callable[[], object], what: str) -> None:
    """Wait until something holds that does so sooner or later."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def running(job: Job) -> Job:
    """Wait until a job has its slot, and return it as it runs."""
    until(lambda: job_in(job.directory).status == "running", f"{job.id} does not start")
    return job_in(job.directory)


def killed(job: Job) -> Job:
    """Kill a job's supervisor, and wait until nothing of what it started is left."""
    job = job_in(job.directory)
    assert job.pid is not None
    family = [psutil.Process(job.pid), *family_of(job.pid)]
    os.kill(job.pid, signal.SIGKILL)
    assert all_gone(family)
    until(lambda: not job_in(job.directory).lives, f"{job.id} lives on")
    return job_in(job.directory)
