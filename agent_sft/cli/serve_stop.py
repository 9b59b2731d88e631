"""`agent-sft serve stop`: end a server."""

from __future__ import annotations

import click


@click.command()
@click.argument("name", required=False)
@click.option("--all", "all_", is_flag=True, help="All servers of this user on this machine.")
def command(name: str | None, all_: bool) -> None:
    """End the server NAME, or the only one there is; return when its processes, port and memory are free."""
    from agent_sft.stages.serving_registry import all_servers, find_server, stop_server

    for record in all_servers() if all_ else [find_server(name)]:
        state = record.state
        stop_server(record)
        click.echo(f"{record.name}: {'was dead, forgotten' if state == 'dead' else 'stopped'}; log {record.log}")
