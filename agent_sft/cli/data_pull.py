"""`agent-sft data pull`: a stored dataset to a file."""

from __future__ import annotations

from pathlib import Path

import click

from agent_sft.cli.data_options import FILE, store_option


@click.command()
@click.argument("dataset", metavar="NAME[@VERSION]")
@click.option("--output", type=FILE, help="File to write.  [default: the name it was pushed under, here]")
@store_option
def command(dataset: str, output: Path | None, store: str | None) -> None:
    """Write a version of a dataset to a file; the latest when none is named."""
    import shutil

    from agent_sft.data.store import Store
    from agent_sft.errors import UserError
    from agent_sft.files import atomic_writer, digest_file

    place = Store.at(store)
    card = place.card(dataset)
    target = output or Path(card.file)
    if target.is_dir():
        raise UserError("is a folder, not a file", where=str(target), fix="name a file in it")
    if target.exists() and digest_file(target) != card.digest:
        raise UserError("exists with other content", where=str(target), fix="name another file with --output")
    with place.fetch(card).open("rb") as content, atomic_writer(target) as stream:
        shutil.copyfileobj(content, stream, 1 << 20)
    click.echo(f"{card.reference}: {target} ({card.rows:,} rows, {card.digest})")
