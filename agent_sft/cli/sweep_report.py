"""`agent-sft sweep report`: what a sweep found."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option(
    "--format",
    "shape",
    type=click.Choice(["html", "markdown", "json", "csv"]),
    default="html",
    show_default=True,
    help="What to print: the page's path, or the report itself in one of the other forms.",
)
def command(folder: Path, shape: str) -> None:
    """Make the report of the sweep in FOLDER: report/index.html, report.md, report.json and report.csv.

    FOLDER is the current folder when not given. It works while the sweep runs; what is missing is said. Where Inspect
    scored, its own viewer is bundled beside the page.
    """
    from agent_sft.report.sweep.writing import FILES, write_report

    page = write_report(folder, viewer=True)
    if shape == "html":
        click.echo(page)
        return
    click.echo(page.with_name(FILES[shape]).read_text(encoding="utf-8"), nl=False)
