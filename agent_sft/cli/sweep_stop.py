"""`agent-sft sweep stop`: end a sweep well, from another terminal."""

from __future__ import annotations

from pathlib import Path

import click

from agent_sft.cli.sweep_options import found_sweep, sweep_argument


@click.command()
@sweep_argument
def command(folder: Path | None) -> None:
    """Have a sweep save and end; return when nothing of it is left. The same command goes on with it.

    Without FOLDER it is the only sweep in sweeps/.
    """
    from agent_sft.sweep.control import driver, stop

    place = found_sweep(folder)
    running = driver(place)
    if running is None:
        click.echo(f"{place}: does not run")
        return
    click.echo(f"{place}: stopping process {running.holder.pid}; trainings save a checkpoint first", err=True)
    stop(running)
    click.echo(f"{place}: stopped; the same command goes on")
