"""What can be done with a job: wait for it, end it, try it again."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from agent_sft.engines.slurm.queue import check_can_end
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import write_json
from agent_sft.jobs.alive import is_alive
from agent_sft.jobs.on_slurm import end_in_slurm
from agent_sft.jobs.record import CANCELLED, Spec, attempts_of, lock_of, record_of
from agent_sft.jobs.status import Job, job_in
from agent_sft.jobs.submitting import machine_need, submit
from agent_sft.jobs.supervisor import NAME
from agent_sft.runs.directory import now
from agent_sft.runs.lock import Holder, holder, is_held

POLL_SECONDS = 0.2
KILL_SECONDS = 30.0
"""How long what a killed job had started may take to be gone."""


def wait(run: Path, timeout: float | None = None, look: Callable[[], None] = lambda: None) -> Job:
    """Wait until a job has ended; return how.

    Args:
        run: the run's directory.
        timeout: seconds to wait at most; None for as long as it takes.
        look: is called again and again meanwhile, and once at the end.

    Raises:
        TimeoutError: it lives on.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while is_alive(run):
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(f"the job in {run} has not ended after {timeout:g} s")
        look()
        time.sleep(POLL_SECONDS)
    look()
    return job_in(run)


def cancel(run: Path, *, at_once: bool = False) -> Job:
    """End a job; return how it ended. A training saves a checkpoint first, and what waits simply leaves the queue.

    Args:
        run: the run's directory.
        at_once: end it without a checkpoint; also where its end was asked for already.

    Raises:
        UserError: it does not live, its end was asked for already, or it runs on another machine.
        WorkFailed: something of it lives on.
    """
    job = job_in(run)
    if not job.lives:
        raise UserError(f"the job {job.id} cannot be cancelled: it is {job.status}", fix="only what waits or runs can")
    attempt = attempts_of(run)[-1]
    if attempt.fact(CANCELLED) is not None and not at_once:
        fix = (
            f"`agent-sft jobs wait {job.id}` waits for its end, `agent-sft jobs cancel --now {job.id}` ends it at once"
        )
        raise UserError(f"the job {job.id} is being cancelled already", fix=fix)
    spec = Spec.read(run)
    in_slurm = spec is not None and spec.need.executor == "slurm"
    who = None if in_slurm else _supervisor(run)
    if who is not None and who.host != socket.gethostname():
        raise UserError(f"the job {job.id} runs on {who.host}", fix="cancel it there")
    if in_slurm:
        check_can_end()
    if attempt.fact(CANCELLED) is None:
        write_json(attempt.path / CANCELLED, {"at": now()})
        record_of(run).record("job cancelled", attempt=attempt.number)
    if in_slurm:
        end_in_slurm(run, at_once=at_once)
        return job_in(run)
    if who is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(who.pid, signal.SIGKILL if at_once else signal.SIGTERM)
    try:
        return wait(run, KILL_SECONDS if at_once else None)
    except TimeoutError as error:
        raise WorkFailed(f"something of the job {job.id} lives on: {error}", log=attempt.log) from error


def retry(run: Path) -> Job:
    """Try a failed job again, from its last whole checkpoint on; return it as it waits or runs.

    Raises:
        UserError: it has not failed, or what it needs is not there any more.
    """
    job, spec = job_in(run), Spec.read(run)
    assert spec is not None
    if job.status != "failed":
        fixes = {
            "cancelled": f"it was ended on purpose; submitted again, it goes on: {_submitting(spec)}",
            "succeeded": f"its model is in {run}",
        }
        fix = fixes.get(job.status, f"`agent-sft jobs cancel {job.id}` ends it")
        raise UserError(f"the job {job.id} cannot be tried again: it is {job.status}", fix=fix)
    if not Path(spec.folder).is_dir():
        raise UserError("the folder that the job runs in is gone", where=spec.folder)
    here = spec.need.executor == "local"
    need = machine_need(spec.need.count, None) if here and spec.need.gpus else spec.need
    return submit(run, spec.kind, spec.command, need, folder=Path(spec.folder))


def _submitting(spec: Spec) -> str:
    """Return what a person types to submit a job again."""
    program, *rest = spec.command
    return shlex.join([program, "train", *rest] if spec.kind == "sft" else spec.command)


def _supervisor(run: Path) -> Holder | None:
    """Return the process that supervises a job, waited for where it is being started; None where it has died."""
    lock = lock_of(run)
    deadline = time.monotonic() + KILL_SECONDS
    while is_held(lock):
        if (who := holder(lock)) is not None and who.command.startswith(NAME):
            return who
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return None
