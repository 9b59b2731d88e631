"""`agent-sft data show`: the card of a stored dataset."""

from __future__ import annotations

import click

from agent_sft.cli.data_options import store_option


@click.command()
@click.argument("dataset", metavar="NAME[@VERSION]")
@store_option
def command(dataset: str, store: str | None) -> None:
    """Show what is known of a version of a dataset; of the latest when none is named."""
    from agent_sft.data.store import Store

    card = Store.at(store).card(dataset)
    facts = {
        "dataset": card.reference,
        "digest": card.digest,
        "rows": f"{card.rows:,}",
        "turns": f"{card.turns:,}",
        "bytes": f"{card.size:,}",
        "file": card.file,
        "origin": card.origin,
        "licence": card.licence or "(not given)",
        "transforms": "; ".join(card.transforms) or "(none known)",
        "created": card.created,
    }
    for name, value in facts.items():
        click.echo(f"{name:<11}{value}")
