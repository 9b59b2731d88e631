"""`agent-sft capability push`: a folder to a capability with a name and a version."""

from __future__ import annotations

from pathlib import Path

import click

from agent_sft.cli.data_options import FILE, store_option


@click.command()
@click.argument("folder", type=FILE)
@store_option
def command(folder: Path, store: str | None) -> None:
    """Store FOLDER under the name and version that its capability.yaml says.

    Beside that stand system_prompt.md (or .txt), tools.json, or both. Pushing the same content again changes nothing;
    other content under the same version is refused.
    """
    from agent_sft.data.capabilities import push_capability

    card, new = push_capability(folder, store)
    tools = f"{card.rows} tool" + ("" if card.rows == 1 else "s")
    click.echo(f"{'stored' if new else 'there already'}: {card.reference} ({tools}, {card.digest})")
