"""`agent-sft data push`: a file to a dataset with a name and a version."""

from __future__ import annotations

from pathlib import Path

import click

from agent_sft.cli.data_options import FILE, store_option


@click.command()
@click.argument("file", type=FILE)
@click.option("--name", required=True, help="Of the dataset.")
@click.option("--version", required=True, help="Three numbers, such as 0.1.0. A version never changes.")
@click.option("--licence", help="Of the data.")
@click.option("--origin", help="Where the data comes from.  [default: the file's path]")
@click.option(
    "--transform",
    "transforms",
    multiple=True,
    help="What was done to it; may be given several times.  [default: what data_report.json beside it says]",
)
@store_option
def command(
    file: Path,
    name: str,
    version: str,
    licence: str | None,
    origin: str | None,
    transforms: tuple[str, ...],
    store: str | None,
) -> None:
    """Store FILE as a version of a dataset. From then on NAME@VERSION stands for it wherever a file is expected.

    Pushing the same content again changes nothing; other content under the same version is refused.
    """
    from agent_sft.data.sources import open_sources
    from agent_sft.data.store import Store
    from agent_sft.stages.outside import open_outside

    rows = (row for source in open_sources([file], opener=open_outside) for _, row in source.rows())
    card, new = Store.at(store).push(
        file, name, version, rows=rows, licence=licence, origin=origin, transforms=transforms
    )
    click.echo(f"{'stored' if new else 'there already'}: {card.reference} ({card.rows:,} rows, {card.digest})")
