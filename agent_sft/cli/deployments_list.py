"""`agent-sft deployments list`: what is deployed on this machine, and how it is."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, without the keys.")
def command(as_json: bool) -> None:
    """List what is deployed: whether it answers now, how often it was started again, and why it died last."""
    import orjson

    from agent_sft.stages.deployments import all_deployments

    found = all_deployments()
    if as_json:
        rows = [one.as_json() for one in found]
        click.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    if not found:
        click.echo("nothing is deployed")
    for one in found:
        times = "once" if one.restarts == 1 else f"{one.restarts} times"
        again = f", started again {times}" if one.restarts else ""
        click.echo(f"{one.record.name}: {one.state}, since {one.record.since}{again}")
        if one.record.served:
            click.echo(f"  {one.record.model_line()}")
        if one.last_death:
            click.echo(f"  died last: {one.last_death}")
        click.echo(f"  log {one.record.log}")
