"""`agent-sft jobs logs`: what a job said."""

from __future__ import annotations

import click

from agent_sft.cli.jobs_show import echo_json, found_job, job_argument, json_option


@click.command()
@job_argument
@click.option("-f", "--follow", is_flag=True, help="Go on as it says more, until it ends.")
@click.option("--attempt", type=int, metavar="N", help="What the N-th attempt said.  [default: the newest]")
@json_option
def command(job: str, follow: bool, attempt: int | None, as_json: bool) -> None:
    """Show what JOB said. The trainer's own words are in `attempts/` of its directory."""
    from agent_sft.jobs.outputs import log_lines

    lines = log_lines(found_job(job), attempt=attempt, follow=follow)
    if as_json:
        echo_json({"lines": list(lines)})
        return
    for line in lines:
        click.echo(line)
