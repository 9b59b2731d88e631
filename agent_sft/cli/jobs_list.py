"""`agent-sft jobs list`: what runs, ran and waits."""

from __future__ import annotations

import click

from agent_sft.cli.jobs_show import echo_json, json_option

STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")


@click.command()
@click.option("--status", "statuses", multiple=True, type=click.Choice(STATUSES), help="Only these; may be repeated.")
@json_option
def command(statuses: tuple[str, ...], as_json: bool) -> None:
    """List this user's jobs wherever they were submitted, sweeps/ and plans/ of this folder, and deployments.

    What lives stands first. How each stands is asked of the system.
    """
    from agent_sft.jobs.listing import everything

    found = [job for job in everything() if not statuses or job.status in statuses]
    if as_json:
        echo_json(found)
        return
    if not found:
        click.echo("there are no jobs" + (" like this" if statuses else ": `agent-sft train sft` submits one"))
    width = max((len(job.id) for job in found), default=0)
    for job in found:
        step = f"{job.step}/{job.steps}" if job.step is not None else ""
        since = (job.ended or job.started or job.submitted or "")[:16].replace("T", " ")
        click.echo(f"{job.id:<{width}}  {job.status:<9}  {step:>9}  {since:<16}  {job.reason or ''}".rstrip())
