"""`agent-sft serve load`: add an adapter to a running server."""

from __future__ import annotations

import click


@click.command()
@click.argument("adapter", metavar="NAME=PATH")
@click.option("--server", help="Its name.  [default: the only one there is]")
def command(adapter: str, server: str | None) -> None:
    """Add the LoRA adapter in PATH; requests choose it by NAME. One of the same name is exchanged."""
    from agent_sft.cli.serve_options import adapters_of
    from agent_sft.stages.serving_registry import find_server

    record = find_server(server)
    control = record.control()
    for name, path in adapters_of([adapter]).items():
        loaded = control.load_adapter(name, path)
        record.write(control)
        click.echo(f"{record.name}: {name} is {loaded.path} ({loaded.digest})")
