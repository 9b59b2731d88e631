"""`agent-sft capability show`: what a stored capability says."""

from __future__ import annotations

import click

from agent_sft.cli.data_options import store_option


@click.command()
@click.argument("capability", metavar="NAME[@VERSION]")
@store_option
def command(capability: str, store: str | None) -> None:
    """Show a version of a capability; the latest when none is named."""
    from agent_sft.data.capabilities import capability_store, stored_capability, tool_names

    place = capability_store(store)
    card = place.card(capability)
    found = stored_capability(place, card)
    tools = "(each conversation's own)" if found.tools is None else ", ".join(tool_names(found.tools)) or "(none)"
    facts = {"capability": card.reference, "digest": card.digest, "origin": card.origin, "created": card.created}
    for name, value in {**facts, "tools": tools}.items():
        click.echo(f"{name:<11}{value}")
    click.echo(f"\n{found.system_prompt if found.system_prompt is not None else '(each system prompt of its own)'}")
