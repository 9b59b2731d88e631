"""`agent-sft serve status`: the servers of this user on this machine."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, without the keys.")
def command(as_json: bool) -> None:
    """List the servers, whether they live, and what they serve. Those that died are told with their logs."""
    import orjson

    from agent_sft.stages.serving_registry import all_servers

    servers = all_servers()
    if as_json:
        rows = [record.as_json() for record in servers]
        click.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    if not servers:
        click.echo("no server runs")
    for record in servers:
        click.echo(f"{record.name}: {record.state}, process {record.pid}, since {record.since}")
        if record.served:
            click.echo(f"  {record.model_line()}")
            click.echo(f"  digest {record.served['model']['digest']}")
            for name, path in record.served["adapters"].items():
                click.echo(f"  adapter {name}: {path}")
        click.echo(f"  log {record.log}")
