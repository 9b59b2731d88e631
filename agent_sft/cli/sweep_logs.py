"""`agent-sft sweep logs`: what the jobs of a sweep said."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent_sft.cli.sft_options import FILE
from agent_sft.cli.sweep_options import found_sweep

if TYPE_CHECKING:
    from agent_sft.report.sweep.record import JobRecord, SweepRecord

POLL_SECONDS = 0.2


@click.command()
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option("-f", "--follow", is_flag=True, help="Go on as more is said, until the sweep ends.")
@click.option("--sweep", "folder", type=FILE, help="The sweep's folder or file.  [default: the only one in sweeps/]")
@click.option("--list", "list_", is_flag=True, help="Only name the logs.")
def command(jobs: tuple[str, ...], follow: bool, folder: Path | None, list_: bool) -> None:
    """Show the last log of each JOB: its id, or its beginning such as `train` or `score/VARIANT`.

    Without JOB, those of the jobs that run; where none does, of those that failed.
    """
    from agent_sft.report.sweep.record import read_record

    jobs, folder = _sweep_first(jobs, folder)
    place = found_sweep(folder)
    record = read_record(place)
    chosen = _chosen(record, jobs)
    if list_:
        for job in chosen:
            click.echo(f"{job.id}: {job.state}; {place / (job.log or '')}")
        return
    shown: dict[str, int] = {}
    for job in chosen:
        _show(place, job, shown, named=len(chosen) > 1 or follow)
    if follow:
        _follow(place, jobs, shown)


def _sweep_first(jobs: tuple[str, ...], folder: Path | None) -> tuple[tuple[str, ...], Path | None]:
    """Take a sweep that stands where the other commands have it."""
    if folder is None and jobs and Path(jobs[0]).exists():
        return jobs[1:], Path(jobs[0])
    return jobs, folder


def _chosen(record: SweepRecord, names: tuple[str, ...]) -> list[JobRecord]:
    from agent_sft.errors import UserError, nearest

    with_log = [job for job in record.jobs if job.log]
    if names:
        found = [job for job in with_log if any(job.id == name or job.id.startswith(f"{name}/") for name in names)]
        for name in names:
            if not any(job.id == name or job.id.startswith(f"{name}/") for job in record.jobs):
                hint = nearest(name, [job.id for job in record.jobs])
                raise UserError(f"there is no job '{name}'", fix=hint or "see `agent-sft sweep status`")
        return found
    running = [job for job in with_log if job.state == "running"]
    return running or [job for job in with_log if job.state == "failed"]


def _show(place: Path, job: JobRecord, shown: dict[str, int], *, named: bool) -> None:
    """Show what was added to a job's log since it was shown last."""
    log = place / (job.log or "")
    if not log.is_file():
        return
    with log.open("rb") as stream:
        stream.seek(shown.get(str(log), 0))
        content = stream.read()
    whole = content if job.state != "running" else content[: content.rfind(b"\n") + 1]
    shown[str(log)] = shown.get(str(log), 0) + len(whole)
    for line in whole.decode("utf-8", "replace").splitlines():
        click.echo(f"{job.id} | {line}" if named else line)


def _follow(place: Path, names: tuple[str, ...], shown: dict[str, int]) -> None:
    from agent_sft.report.sweep.record import read_record
    from agent_sft.sweep.control import driver

    while True:
        lives = driver(place) is not None
        record = read_record(place)
        for job in record.jobs:
            wanted = not names or any(job.id == name or job.id.startswith(f"{name}/") for name in names)
            if job.log and wanted and (names or job.state == "running" or str(place / job.log) in shown):
                _show(place, job, shown, named=True)
        if not lives:
            return
        time.sleep(POLL_SECONDS)
