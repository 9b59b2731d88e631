"""`agent-sft merge`: consecutive turns of the same role become one, trailing human turns go."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(path_type=Path)


@click.command()
@click.option("--input", "source", type=FILE, required=True, help="JSON array or JSONL of ShareGPT conversations.")
@click.option("--output", type=FILE, required=True, help="Where the merged ones go; may be the input itself.")
def command(source: Path, output: Path) -> None:
    """Join consecutive turns of the same role by a newline and trim trailing human turns.

    Rows with an unknown role or a value that is not text pass through unchanged, and are counted.
    """
    from agent_sft.data.merging import merge_file
    from agent_sft.data.store import local_path

    for line in merge_file(local_path(source), output).lines():
        click.echo(line)
