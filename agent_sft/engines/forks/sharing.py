"""How a program of an engine is forked from a process that has the engine imported, where there is one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FORKS = "AGENT_SFT_FORKS"
"""Variable with the folder in which such processes listen: see `inside/fork_server.py`."""
INSIDE = Path(__file__).with_name("inside")


@dataclass(frozen=True)
class Shared:
    """An engine that one process can import for many programs."""

    environment: str
    """Name of the environment that it lives in."""
    imported: Path
    """The file that imports it."""
    unread: tuple[str, ...] = ()
    """Beginnings of variables that it does not read while it is imported, beside our own."""
    part: str = ""
    """What it is told by from others of the same environment."""

    @property
    def name(self) -> str:
        """What the process that has it imported is called."""
        return self.part or self.environment

    def socket(self, folder: Path) -> Path:
        """Return where the process listens."""
        return folder / f"{self.name}.socket"

    def server_command(self, python: Path, folder: Path, *unread: str) -> list[str]:
        """Return the command of the process.

        Args:
            python: the environment's.
            folder: where it listens.
            unread: beginnings of further variables that no engine reads.
        """
        program = [str(INSIDE / "fork_server.py"), str(self.socket(folder)), str(self.imported)]
        return [str(python), *program, "AGENT_SFT_", *self.unread, *unread]

    def forked(self, command: Sequence[str]) -> list[str]:
        """Return the command by which a program of the engine is forked where there is a process for that.

        It does as `command` does, which is a Python and a program with its arguments.
        """
        folder = os.environ.get(FORKS)
        if not folder:
            return [*command]
        python, *program = command
        return [python, "-I", "-S", str(INSIDE / "fork_client.py"), str(self.socket(Path(folder))), *program]
