"""`agent-sft jobs artifacts`: what a job made."""

from __future__ import annotations

import click

from agent_sft.cli.jobs_show import echo_json, found_job, job_argument, json_option


@click.command()
@job_argument
@json_option
def command(job: str, as_json: bool) -> None:
    """List what JOB has made so far: its model, checkpoints, figures and reports, with their places."""
    from agent_sft.stages.artifacts import artifacts

    found = dict(artifacts(found_job(job)))
    if as_json:
        echo_json({name: str(path) for name, path in found.items()})
        return
    for name, path in found.items():
        click.echo(f"{name}: {path}")
