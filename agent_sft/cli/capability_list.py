"""`agent-sft capability list`: the capabilities that are stored."""

from __future__ import annotations

import click

from agent_sft.cli.data_options import store_option


@click.command()
@store_option
def command(store: str | None) -> None:
    """List the capabilities that are stored: each version with its tools and the day it was made."""
    from agent_sft.data.capabilities import capability_store

    cards = capability_store(store).cards()
    width = max((len(card.reference) for card in cards), default=0)
    for card in cards:
        click.echo(f"{card.reference:<{width}}  {card.rows:>4} tools  {card.size:>9,} bytes  {card.created[:10]}")
