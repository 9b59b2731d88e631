"""`agent-sft jobs retry`: a failed job again."""

from __future__ import annotations

import click

from agent_sft.cli.jobs_show import echo_json, found_job, job_argument, json_option


@click.command()
@job_argument
@json_option
def command(job: str, as_json: bool) -> None:
    """Try JOB again, which has failed: as a new attempt, from its last whole checkpoint on."""
    from agent_sft.jobs.control import retry

    found = retry(found_job(job))
    echo_json(found) if as_json else click.echo(f"{found.id}: {found.status}, attempt {found.attempt}")
