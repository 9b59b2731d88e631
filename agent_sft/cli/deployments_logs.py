"""`agent-sft deployments logs`: what a deployment's server said."""

from __future__ import annotations

import time

import click

FOLLOW_SECONDS = 0.5


@click.command()
@click.argument("name", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on as it says more, until Ctrl-C.")
@click.option("--lines", "-n", type=click.IntRange(min=1), default=100, show_default=True, help="From the end.")
@click.option("--before", type=click.IntRange(min=1), metavar="N", help="The log of the Nth server that died.")
def command(name: str | None, follow: bool, lines: int, before: int | None) -> None:
    """Show the end of the log of NAME, or of the only deployment there is."""
    from agent_sft.stages.deployments import find_deployment, log_of, read_end

    found = find_deployment(name)
    path = log_of(found.record, before)
    text, place = read_end(path, lines)
    click.echo(text, nl=False)
    while follow and before is None:
        time.sleep(FOLLOW_SECONDS)
        if path.is_file():
            with path.open("rb") as stream:
                # A new server began a new log.
                stream.seek(place if path.stat().st_size >= place else 0)
                click.echo(stream.read().decode("utf-8", "replace"), nl=False)
                place = stream.tell()
