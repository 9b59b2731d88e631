"""`agent-sft jobs wait`: until a job has ended."""

from __future__ import annotations

import click

from agent_sft.cli.jobs_show import exit_with, job_argument, json_option, told_end


@click.command()
@job_argument
@json_option
@click.pass_context
def command(context: click.Context, job: str, as_json: bool) -> None:
    """Wait until JOB has ended and exit as it did: 0 where it succeeded. Ctrl-C leaves it running."""
    from agent_sft.jobs.listing import find
    from agent_sft.jobs.others import KINDS, wait_for_other

    found = find(job)
    if found.kind in KINDS:
        told_end(context, wait_for_other(found), as_json=as_json)
    exit_with(context, found.directory, as_json=as_json, show=False)
