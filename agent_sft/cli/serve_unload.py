"""`agent-sft serve unload`: take an adapter away from a running server."""

from __future__ import annotations

import click


@click.command()
@click.argument("name")
@click.option("--server", help="Its name.  [default: the only one there is]")
def command(name: str, server: str | None) -> None:
    """Take the LoRA adapter NAME away."""
    from agent_sft.stages.serving_registry import find_server

    record = find_server(server)
    control = record.control()
    control.unload_adapter(name)
    record.write(control)
    click.echo(f"{record.name}: {name} is gone; adapters: {', '.join(control.adapters) or 'none'}")
