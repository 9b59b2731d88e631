"""`agent-sft sweep clean`: take away what a sweep no longer needs."""

from __future__ import annotations

from pathlib import Path

import click

from agent_sft.cli.sweep_options import found_sweep, sweep_argument


@click.command()
@sweep_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_context
def command(context: click.Context, folder: Path | None, yes: bool, dry_run: bool) -> None:
    """Delete what was set aside, checkpoints that the sweep's `keep` does not keep, and logs of servers.

    Models, results and the report stay. Without FOLDER it is the only sweep in sweeps/.
    """
    from agent_sft.runs.lock import run_lock
    from agent_sft.sweep.cleaning import cleanable, delete
    from agent_sft.sweep.control import BUSY, LOCK

    place = found_sweep(folder)
    with run_lock(place / LOCK, BUSY):
        found = cleanable(place)
        if not found:
            click.echo(f"{place}: nothing to take away")
            return
        for part in found:
            click.echo(f"{part.bytes / 1e6:10.1f} MB  {part.path} ({part.why})")
        total = sum(part.bytes for part in found)
        if dry_run:
            click.echo(f"{total / 1e6:.1f} MB would be freed")
            return
        if not yes and not click.confirm(f"delete these, {total / 1e6:.1f} MB?"):
            context.exit(1)
        delete(found)
        click.echo(f"{total / 1e6:.1f} MB freed")
