"""`agent-sft jobs cancel`: end a job."""

from __future__ import annotations

import click

from agent_sft.cli.jobs_show import echo_json, job_argument, json_option
from agent_sft.cli.show import say


@click.command()
@job_argument
@click.option("--now", is_flag=True, help="End it at once, without a checkpoint.")
@json_option
def command(job: str, now: bool, as_json: bool) -> None:
    """End JOB and return when nothing of it is left: a training saves a checkpoint, what waits leaves the queue.

    Sweeps, plans and deployments are ended well too.
    """
    from agent_sft.jobs.control import cancel
    from agent_sft.jobs.listing import find
    from agent_sft.jobs.others import KINDS, stop_other

    found = find(job)
    if found.kind in KINDS:
        stop_other(found)
        click.echo(f"{found.id}: stopped")
        return
    if found.status == "running" and not now:
        say(f"{found.id}: stopping; a training saves a checkpoint first (--now ends it at once)")
    found = cancel(found.directory, at_once=now)
    echo_json(found) if as_json else click.echo(f"{found.id}: {found.status}")
