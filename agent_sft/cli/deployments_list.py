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
        rows = [
            {
                "name": one.record.name,
                "state": one.state,
                "restarts": one.restarts,
                "last_death": one.last_death,
                "since": one.record.since,
                "pid": one.record.pid,
                "log": str(one.record.log),
                "key_file": str(one.record.key_file),
                **one.record.served,
            }
            for one in found
        ]
        click.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    if not found:
        click.echo("nothing is deployed")
    for one in found:
        times = "once" if one.restarts == 1 else f"{one.restarts} times"
        again = f", started again {times}" if one.restarts else ""
        click.echo(f"{one.record.name}: {one.state}, since {one.record.since}{again}")
        if one.record.served:
            model = one.record.served["model"]
            click.echo(f"  {model['url']} ({model['backend']}), {model['path'] or model['name']}")
        if one.last_death:
            click.echo(f"  died last: {one.last_death}")
        click.echo(f"  log {one.record.log}")
