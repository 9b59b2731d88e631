"""What the commands about a sweep share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from agent_sft.cli.sft_options import FILE

Command = Callable[..., Any]


def sweep_argument(function: Command) -> Command:
    """Add the argument that names a sweep."""
    return click.argument("folder", type=FILE, required=False, metavar="[FOLDER|FILE.yaml]")(function)


def found_sweep(given: Path | None) -> Path:
    """Return the folder of the sweep that was named, or of the only one there is.

    Raises:
        UserError: there is none, or there are several.
    """
    from agent_sft.sweep.control import find_sweep

    return find_sweep(given)
