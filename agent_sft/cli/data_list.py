"""`agent-sft data list`: the datasets that are stored."""

from __future__ import annotations

import click

from agent_sft.cli.data_options import store_option


@click.command()
@store_option
def command(store: str | None) -> None:
    """List the datasets that are stored: each version with its rows, its size and the day it was made."""
    from agent_sft.data.store import Store

    cards = Store.at(store).cards()
    width = max((len(card.reference) for card in cards), default=0)
    for card in cards:
        facts = f"{card.rows:>9,} rows  {card.size / 1e6:>9,.1f} MB  {card.created[:10]}  {card.licence or ''}"
        click.echo(f"{card.reference:<{width}}  {facts}".rstrip())
