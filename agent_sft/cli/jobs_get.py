"""`agent-sft jobs get`: all about a job."""

from __future__ import annotations

import click

from agent_sft.cli.jobs_show import echo_json, job_argument, job_lines, json_option


@click.command()
@job_argument
@json_option
def command(job: str, as_json: bool) -> None:
    """Tell how JOB stands, what it runs, where, and where what it says and makes is."""
    from agent_sft.jobs.listing import find

    found = find(job)
    if as_json:
        echo_json(found)
        return
    for line in job_lines(found):
        click.echo(line)
