"""`agent-sft sweep report`: what a sweep found."""

from __future__ import annotations

from pathlib import Path

import click

from agent_sft.cli.sweep_options import found_sweep, sweep_argument


@click.command()
@sweep_argument
@click.option(
    "--format",
    "shape",
    type=click.Choice(["html", "markdown", "json", "csv"]),
    default="html",
    show_default=True,
    help="What to print: the page's path, or the report itself in one of the other forms.",
)
def command(folder: Path | None, shape: str) -> None:
    """Make the report of a sweep: report/index.html, report.md, report.json and report.csv.

    Without FOLDER it is the sweep in this folder, or the only one in sweeps/. It works while the sweep runs; what is
    missing is said. Where Inspect scored, its own viewer is bundled beside the page.
    """
    from agent_sft.report.sweep.writing import FILES, write_report

    page = write_report(found_sweep(folder), viewer=True)
    if shape == "html":
        click.echo(page)
        return
    click.echo(page.with_name(FILES[shape]).read_text(encoding="utf-8"), nl=False)
