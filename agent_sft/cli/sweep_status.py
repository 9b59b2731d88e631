"""`agent-sft sweep status`: how a sweep stands."""

from __future__ import annotations

from pathlib import Path

import click

from agent_sft.cli.sweep_options import found_sweep, sweep_argument


@click.command()
@sweep_argument
@click.option("--json", "as_json", is_flag=True, help="As JSON: the sweep's record, and whether it runs.")
def command(folder: Path | None, as_json: bool) -> None:
    """Show whether a sweep runs, and how each of its variants stands.

    That it runs is asked of the system. Without FOLDER it is the only sweep in sweeps/.
    """
    import msgspec

    from agent_sft.report.sweep.record import read_record
    from agent_sft.sweep.control import driver
    from agent_sft.sweep.progress import Progress

    place = found_sweep(folder)
    record, running = read_record(place), driver(place)
    if as_json:
        value = msgspec.to_builtins(record)
        value["driver"] = None if running is None else {"pid": running.holder.pid, "host": running.holder.host}
        click.echo(msgspec.json.format(msgspec.json.encode(value), indent=1).decode())
        return
    from rich.console import Console

    from agent_sft.cli.sweep_show import table

    if running is not None:
        state = f"runs: process {running.holder.pid} on {running.holder.host}, since {record.started}"
    elif record.finished is not None:
        state = f"ended {record.finished}"
    else:
        state = f"does not run; it was stopped or killed, last heard of {record.updated}. The same command goes on"
    click.echo(f"{place}: {state}")
    lines = Progress(place).lines(record)
    Console(soft_wrap=True).print(table(lines))
    for job in record.jobs:
        if job.state in ("failed", "skipped") or (job.state == "waiting" and job.attempts and job.reason):
            where = f"; log {place / job.log}" if job.log and job.state == "failed" else ""
            click.echo(f"{job.id}: {job.state}: {job.reason}{where}")
    if (place / "report" / "index.html").is_file():
        click.echo(f"report: {place / 'report' / 'index.html'}")
