"""What runs beside jobs, told as jobs are: sweeps and plans of this folder, deployments of this user."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent_sft.errors import UserError
from agent_sft.jobs.status import Job, Status
from agent_sft.planning.folder import PlanFolder, all_plans
from agent_sft.planning.on_slurm import end_in_slurm, is_under_way, submission_of
from agent_sft.report.plan.record import Standing
from agent_sft.report.sweep.record import RECORD, SweepRecord, read_record
from agent_sft.runs.lock import Holder, holder
from agent_sft.stages.serving_registry import Record, all_servers, stop_server
from agent_sft.sweep.control import LOCK, SWEEPS, Driver, stop

POLL_SECONDS = 0.5
KINDS = ("sweep", "plan", "deployment", "server")
PLAN_STATUS: dict[Standing, Status] = {
    "running": "running",
    "waiting for approval": "queued",
    "waiting for promotion": "queued",
    "refused": "cancelled",
    "over budget": "failed",
    "stopped": "failed",
    "failed": "failed",
    "done": "succeeded",
}
OWN_COMMANDS = {
    "sweep": "agent-sft sweep status | logs | report",
    "plan": "agent-sft plan status",
    "deployment": "agent-sft deployments list | logs",
    "server": "agent-sft serve status",
}


def others() -> list[Job]:
    """Return what runs or ran here beside jobs; each has an id of the form `KIND:NAME`."""
    found = [_sweep(path.parent) for path in sorted(SWEEPS.glob(f"*/{RECORD}"))]
    found += [one for folder in all_plans() if (one := _plan(folder)) is not None]
    return [*found, *map(_server, all_servers())]


def find_other(name: str) -> Job | None:
    """Return what has this id of the form `KIND:NAME`; None where nothing has."""
    kind = name.partition(":")[0]
    return next((one for one in others() if one.id == name), None) if kind in KINDS else None


def stop_other(job: Job) -> None:
    """End a sweep, a plan, a deployment or a server well; return when nothing of it is left.

    Raises:
        UserError: it does not run, or runs on another machine.
        WorkFailed: it lives on.
    """
    if job.kind in ("deployment", "server"):
        for record in all_servers():
            if record.folder == job.directory:
                stop_server(record)
        return
    if job.kind == "plan":
        plan = PlanFolder(job.directory)
        slurm = submission_of(plan)
        if slurm is not None and slurm.standing is not None and is_under_way(plan):
            end_in_slurm(plan, slurm)
            return
    who = holder(job.directory / LOCK)
    if who is None:
        raise UserError(f"{job.id} cannot be cancelled: it is {job.status}", fix="only what runs can")
    stop(Driver(job.directory, who))


def own_commands(job: Job) -> UserError:
    """Return the error of asking something of it that only jobs can do."""
    return UserError(f"{job.id} is no job of its own", fix=f"see `{OWN_COMMANDS[job.kind]}`")


def _sweep(folder: Path) -> Job:
    try:
        record = read_record(folder)
    except UserError as error:
        return Job(f"sweep:{folder.name}", "sweep", "failed", folder.absolute(), reason=error.what)
    who = holder(folder / LOCK)
    status, reason = _standing(record, who)
    return Job(
        id=f"sweep:{folder.name}",
        kind="sweep",
        status=status,
        reason=reason,
        directory=folder.absolute(),
        started=record.started,
        ended=record.finished,
        command=tuple(record.command),
        folder=Path(record.folder),
        **_of(who),
    )


def _standing(record: SweepRecord, who: Holder | None) -> tuple[Status, str | None]:
    done = sum(job.state == "done" for job in record.jobs)
    failed = [job for job in record.jobs if job.state == "failed"]
    told = f"{done} of {len(record.jobs)} jobs done"
    if who is not None:
        return "running", told
    if failed:
        return "failed", f"{told}; {failed[0].id}: {failed[0].reason}"
    if record.finished is None:
        return "failed", f"{told}; it was stopped or killed, the same command goes on"
    return "succeeded", told


def _plan(folder: PlanFolder) -> Job | None:
    state, slurm = folder.state(), submission_of(folder)
    queued = slurm.standing if slurm is not None else None
    if slurm is not None and queued is not None and queued.waits:
        status: Status = "queued"
        reason, ended = f"job {slurm.id} of Slurm ({queued.reason})", None
    elif state is not None:
        status = PLAN_STATUS[state.standing]
        reason = ": ".join(filter(None, (f"{state.standing} ({state.phase})", state.reason)))
        ended = None if state.standing == "running" else state.updated
    elif slurm is not None:
        status = "running" if queued is not None and queued.lives else "failed"
        reason, ended = f"job {slurm.id} of Slurm: see {slurm.log}", None
    else:
        return None
    return Job(
        id=f"plan:{folder.path.name}",
        kind="plan",
        status=status,
        reason=reason,
        directory=folder.path.absolute(),
        submitted=slurm.at if slurm is not None else None,
        ended=ended,
        **_of(holder(folder.path / LOCK)),
    )


def _server(record: Record) -> Job:
    kind = "deployment" if record.supervised else "server"
    model: dict[str, Any] = record.served.get("model") or {}
    dead = record.state == "dead"
    return Job(
        id=f"{kind}:{record.name}",
        kind=kind,
        status="failed" if dead else "running",
        reason=f"{record.state}, {model['url']}" if model and not dead else record.state,
        directory=record.folder,
        started=record.since,
        host=record.host,
        pid=None if dead else record.pid,
        log=record.log,
    )


def _of(who: Holder | None) -> dict[str, Any]:
    return {"host": who.host, "pid": who.pid} if who is not None else {}


def wait_for_other(job: Job) -> Job:
    """Wait until a sweep or a plan does not run; return how it stands then.

    Raises:
        UserError: it is a server, which has no end of its own.
    """
    if job.kind in ("deployment", "server"):
        raise UserError(f"{job.id} has no end of its own", fix=f"`agent-sft jobs cancel {job.id}` ends it")
    while holder(job.directory / LOCK) is not None or (job.kind == "plan" and is_under_way(PlanFolder(job.directory))):
        time.sleep(POLL_SECONDS)
    found = find_other(job.id)
    if found is None:
        raise UserError(f"{job.id} is gone", where=str(job.directory))
    return replace(found, exit_code=0 if found.status in ("succeeded", "queued") else 1)
