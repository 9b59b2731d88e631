"""How jobs look, and what the commands about them share."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent_sft.cli.show import say

if TYPE_CHECKING:
    from agent_sft.jobs.status import Job

Command = Callable[..., Any]


def job_argument(function: Command) -> Command:
    """Add the argument that names a job."""
    return click.argument("job", metavar="JOB")(function)


def json_option(function: Command) -> Command:
    """Add the option for programs."""
    return click.option("--json", "as_json", is_flag=True, help="As JSON.")(function)


def found_job(name: str) -> Path:
    """Return the directory of a job that jobs alone have: logs, metrics, attempts.

    Raises:
        UserError: there is none, or it is a sweep, a plan or a deployment.
    """
    from agent_sft.jobs.listing import find
    from agent_sft.jobs.others import KINDS, own_commands

    job = find(name)
    if job.kind in KINDS:
        raise own_commands(job)
    return job.directory


def as_text(command: Sequence[str]) -> str:
    """Return a command as it is pasted."""
    return " ".join(map(shlex.quote, command))


def as_value(job: Job) -> dict[str, Any]:
    """Return a job as JSON has it."""
    value = {name: str(entry) if isinstance(entry, Path) else entry for name, entry in vars(job).items()}
    return {**value, "command": list(job.command), "slots": list(job.slots)}


def echo_json(found: Job | Sequence[Any] | dict[str, Any]) -> None:
    """Print jobs, or what is known of them, as JSON."""
    import orjson

    if isinstance(found, Sequence):
        value: Any = [one if isinstance(one, dict) else as_value(one) for one in found]
    else:
        value = found if isinstance(found, dict) else as_value(found)
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def job_lines(job: Job) -> Iterator[str]:
    """Yield all that is known of a job."""
    steps = f"{job.step}/{job.steps}" + (f", loss {job.loss:.4f}" if job.loss is not None else "") if job.step else None
    facts = {
        "status": job.status + (f" ({job.reason})" if job.reason else ""),
        "step": steps,
        "attempt": job.attempt or None,
        "submitted": job.submitted,
        "started": job.started,
        "ended": job.ended,
        "exit code": job.exit_code,
        "process": f"{job.pid} on {job.host}" if job.pid else None,
        "slots": ", ".join(job.slots) or None,
        "directory": job.directory,
        "log": job.log,
        "folder": job.folder,
        "command": as_text(job.command) or None,
    }
    yield f"{job.id} ({job.kind})"
    yield from (f"  {name:<11}{value}" for name, value in facts.items() if value is not None)


def exit_with(context: click.Context, run: Path, *, as_json: bool, show: bool) -> None:
    """Wait until a job has ended, tell how, and exit as it did.

    Args:
        context: of the command.
        run: the job's directory.
        as_json: tell it as JSON.
        show: show what the job says meanwhile.
    """
    from agent_sft.jobs.control import wait
    from agent_sft.jobs.outputs import LogFollower, attempt_of

    follower = LogFollower(attempt_of(run, None).log)

    def look() -> None:
        for line in follower.lines() if show else ():
            say(line)

    job = wait(run, look=look)
    told_end(context, job, as_json=as_json)


def told_end(context: click.Context, job: Job, *, as_json: bool) -> None:
    """Tell how a job ended, and exit with its code."""
    if as_json:
        echo_json(job)
    else:
        click.echo(f"{job.id}: {job.status}" + (f" ({job.reason})" if job.reason else ""))
    context.exit(job.exit_code or 0)
