"""A group of commands that are imported when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A group whose commands are imported one at a time, so that --help answers at once."""

    def __init__(self, *args: Any, known: Mapping[str, str], prefix: str, **kwargs: Any) -> None:
        """Make a group.

        Args:
            args: as for any group.
            known: the commands and what each does, in a line.
            prefix: the command NAME is `command` in the module `prefix` + NAME.
            kwargs: as for any group.
        """
        super().__init__(*args, **kwargs)
        self.known = known
        self.prefix = prefix

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.known)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in self.known:
            return None
        command = importlib.import_module(self.prefix + cmd_name).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.known.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse an unknown command with the nearest known one."""
        from agent_sft.errors import nearest

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            ctx.fail(f"No such command '{args[0]}'. {nearest(args[0], self.known)}".rstrip())
