"""`agent-sft deployments stop`: end what was deployed."""

from __future__ import annotations

import click


@click.command()
@click.argument("name", required=False)
@click.option("--all", "all_", is_flag=True, help="All deployments of this user on this machine.")
def command(name: str | None, all_: bool) -> None:
    """End the deployment NAME, or the only one there is; return when its processes, port and memory are free."""
    from agent_sft.stages.deployments import all_deployments, find_deployment
    from agent_sft.stages.serving_registry import stop_server

    for one in all_deployments() if all_ else [find_deployment(name)]:
        state = one.record.state
        stop_server(one.record)
        said = "was dead, forgotten" if state == "dead" else "stopped"
        click.echo(f"{one.record.name}: {said}; log {one.record.log}")
