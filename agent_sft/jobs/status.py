"""How jobs stand: read off locks, stamps and weights each time it is asked, never off a word that was written down."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent_sft.engines.llamafactory.checkpoints import weights_fault
from agent_sft.engines.slurm.queue import UNKNOWN, Standing
from agent_sft.errors import UserError, nearest
from agent_sft.files import read_lines
from agent_sft.jobs.alive import ASKED_TO_END, BY_SIGNAL, in_slurm, lives_in_slurm
from agent_sft.jobs.index import all_jobs, index_folder
from agent_sft.jobs.record import CANCELLED, ENDED, STARTED, SUBMITTED, Attempt, Spec, attempts_of, lock_of
from agent_sft.runs.directory import RunDirectory
from agent_sft.runs.lock import holder, is_held
from agent_sft.runs.queue import waiting

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
LIVE = ("queued", "running")
TAIL = 1 << 16
"""Bytes at the end of a log in which the reason of a failure is looked for."""


@dataclass(frozen=True)
class Job:
    """A job, or something else that runs, as it stands now."""

    id: str
    kind: str
    """`sft`, `sweep`, `plan` or `deployment`."""
    status: Status
    directory: Path
    """Where what it makes lies."""
    reason: str | None = None
    """Why it failed, or what it waits for."""
    exit_code: int | None = None
    """How it ended; None while it lives."""
    attempt: int = 0
    """Which attempt this is; 0 where there are none."""
    submitted: str | None = None
    """ISO 8601, UTC."""
    started: str | None = None
    """When this attempt had its slots."""
    ended: str | None = None
    host: str | None = None
    pid: int | None = None
    """Of its supervisor, while that lives."""
    slots: tuple[str, ...] = ()
    """What it has, or had, of the machine."""
    step: int | None = None
    """Optimizer steps done."""
    steps: int | None = None
    """Optimizer steps in all."""
    loss: float | None = None
    """The last one that was logged."""
    log: Path | None = None
    """What this attempt said."""
    command: tuple[str, ...] = ()
    folder: Path | None = None
    """Where the command runs."""

    @property
    def lives(self) -> bool:
        """Whether it waits or runs."""
        return self.status in LIVE


def find_job(name: str) -> Path:
    """Return the run's directory of a job, by its id or its directory.

    Raises:
        UserError: there is none, with the nearest id.
    """
    known = all_jobs()
    if name in known:
        return known[name]
    given = Path(name)
    if Spec.read(given) is not None:
        return given.resolve()
    raise no_job(name, list(known))


def no_job(name: str, known: Sequence[str]) -> UserError:
    """Return the error of a job that there is not."""
    where = f"looked in {index_folder()} and in saves/ of this folder"
    fix = nearest(name, known) or (f"there are: {', '.join(known[:8])}" if known else "`agent-sft train sft` makes one")
    return UserError(f"there is no job '{name}' ({where})", fix=fix)


def job_in(run: Path) -> Job:
    """Return how the job in a run's directory stands.

    Raises:
        UserError: there is no job in it.
    """
    spec, attempts = Spec.read(run), attempts_of(run)
    if spec is None or not attempts:
        raise UserError("there is no job in this directory", where=str(run), fix="see `agent-sft jobs list`")
    attempt = attempts[-1]
    # Whether it lives comes first: what it leaves when it ends is there once it does not.
    held, slurm = is_held(lock_of(run)), in_slurm(attempt)
    who = holder(lock_of(run)) if held else None
    started, ended = attempt.fact(STARTED) or {}, attempt.fact(ENDED) or {}
    status: Status
    code = None
    if spec.need.executor == "slurm" and (held or lives_in_slurm(attempt, slurm)):
        status, reason = _in_slurm(attempt, slurm, supervised=held and bool(started))
    elif held:
        status = "running" if started else "queued"
        reason = _waits_for(spec) if not started else None if who else "its supervisor died: what it started is ended"
        if who is not None and who.host != socket.gethostname():
            reason = f"on {who.host}"
    else:
        status, reason, code = _outcome(spec, run, attempt, slurm)
    step, steps, loss = _progress(run) if spec.kind == "sft" and started else (None, None, None)
    return Job(
        id=spec.id,
        kind=spec.kind,
        status=status,
        reason=reason,
        exit_code=code,
        attempt=attempt.number,
        submitted=spec.submitted,
        started=started.get("at"),
        ended=ended.get("at"),
        host=who.host if who else started.get("host"),
        pid=who.pid if who else None,
        slots=tuple(started.get("slots", ())),
        step=step,
        steps=steps,
        loss=loss,
        directory=run,
        log=attempt.log,
        command=spec.command,
        folder=Path(spec.folder),
    )


def _in_slurm(attempt: Attempt, found: Standing | None, *, supervised: bool) -> tuple[Status, str | None]:
    """Return how an attempt stands that Slurm has, and what it waits for.

    Args:
        attempt: the attempt.
        found: Slurm's word of it; None where it has not been asked, or has none.
        supervised: whether the job's supervisor runs on the machine that Slurm gave.
    """
    number = (attempt.fact(SUBMITTED) or {}).get("id")
    name = f"job {number} of Slurm" if number else "it is being submitted"
    if found is not None and found.state == UNKNOWN:
        return ("running" if attempt.fact(STARTED) else "queued"), f"{name}; how it stands is not known: {found.reason}"
    if supervised or (found is not None and not found.waits):
        on = found.nodes if found is not None else ""
        return "running", f"{name} on {on}" if on else name
    why = f" ({found.reason})" if found is not None and found.reason not in ("", "None") else ""
    return "queued", f"{name}{why}" + ("; its next turn goes on" if attempt.fact(STARTED) else "")


def _outcome(spec: Spec, run: Path, attempt: Attempt, slurm: Standing | None) -> tuple[Status, str | None, int]:
    """Return how an attempt ended whose lock nobody holds, why, and its exit code."""
    ended, cancelled = attempt.fact(ENDED), attempt.fact(CANCELLED)
    code = int(ended["exit_code"]) if ended is not None else None
    fault = _fault(spec, run, attempt, code)
    if fault is None:
        return "succeeded", None, 0
    if cancelled is not None and code != 0:
        return "cancelled", f"asked for at {cancelled['at']}", code or 143
    if slurm is not None and slurm.state == "CANCELLED":
        return "cancelled", slurm.why, code or 143
    if spec.need.executor == "slurm" and (code is None or code in BY_SIGNAL):
        fault = _ended_by_slurm(slurm, code) or fault
    return "failed", fault, code or 1


def _ended_by_slurm(found: Standing | None, code: int | None) -> str | None:
    """Return why Slurm ended an attempt, or let it end; None where the attempt itself says why."""
    if found is not None and found.why is not None:
        return f"{found.why} ({found.state})"
    if code == ASKED_TO_END:
        return "it saved and ended when Slurm asked it to: its time was up, or somebody sent it TERM"
    if code is None:
        return "Slurm has no word of how it ended: it was killed, or its machine failed"
    return None


def _fault(spec: Spec, run: Path, attempt: Attempt, code: int | None) -> str | None:
    """Return why a job that ended has not succeeded; None where it has."""
    if code:
        return f"exit code {code}{_said(attempt.log)}"
    if spec.kind == "sft":
        stamp, started = RunDirectory(run).stamp("train"), attempt.fact(STARTED)
        if stamp is not None and (code == 0 or (started is not None and stamp.finished >= started["at"])):
            fault = weights_fault(run)
            return f"trained, but {fault} of its model is missing or damaged" if fault else None
        if code == 0:
            return "it ended well, but the record of its training is gone"
    elif code == 0:
        return None
    if attempt.fact(STARTED) is None:
        return "its supervisor was killed while it waited"
    return "its supervisor was killed; what it had started went with it"


def _said(log: Path) -> str:
    """Return the last error that a log names."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - TAIL))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    said = next((line for line in reversed(lines) if line.startswith("error: ")), None)
    return f": {said.removeprefix('error: ')}" if said else ""


def _waits_for(spec: Spec) -> str:
    if spec.need.executor != "local":
        return "for its place on the cluster"
    names = waiting()
    before = names.index(spec.id) if spec.id in names else 0
    return f"{before} before it" if before else "next"


def _progress(run: Path) -> tuple[int | None, int | None, float | None]:
    """Return the step, all steps and the last loss that the trainer logged."""
    lines = read_lines(run / "trainer_log.jsonl")
    if not lines:
        return None, None, None
    loss = next((line["loss"] for line in reversed(lines) if "loss" in line), None)
    return lines[-1].get("current_steps"), lines[-1].get("total_steps"), loss
