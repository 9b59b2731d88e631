"""`agent-sft jobs metrics`: what was measured while a job trained."""

from __future__ import annotations

import click

from agent_sft.cli.jobs_show import echo_json, found_job, job_argument, json_option


@click.command()
@job_argument
@json_option
def command(job: str, as_json: bool) -> None:
    """Show the losses, the learning rate and the scores of JOB, a line for each step that has any."""
    from agent_sft.jobs.outputs import metrics_of

    found = metrics_of(found_job(job))
    if as_json:
        echo_json(found)
        return
    if not found:
        click.echo("nothing was measured yet")
    for entry in found:
        figures = "  ".join(f"{key} {value:.4g}" for key, value in entry.items() if key != "step")
        click.echo(f"step {entry['step']}: {figures}")
