"""The options of the commands that show what evaluations found."""

from __future__ import annotations

from pathlib import Path

import click

format_option = click.option(
    "--format",
    "shape",
    type=click.Choice(["table", "json", "csv", "markdown"]),
    default="table",
    show_default=True,
    help="How to show it.",
)
output_option = click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file instead."
)


def give(text: str, output: Path | None) -> None:
    """Print a text, or write it to a file in one step."""
    if output is None:
        click.echo(text)
        return
    from agent_sft.cli.show import say
    from agent_sft.files import write_atomic

    write_atomic(output, f"{text}\n")
    say(f"written: {output}")
