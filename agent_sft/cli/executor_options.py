"""The options that say where stages run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

RAY_ADDRESS = click.option(
    "--ray-address",
    metavar="HOST:PORT",
    help="The Ray cluster's.  [default: RAY_ADDRESS, or the one that runs on this machine]",
)


def executor_option(help_text: str, *executors: str) -> Callable[[Any], Any]:
    """Return the option that chooses one of these executors."""
    return click.option("--executor", type=click.Choice(executors), help=help_text)


EXECUTOR_OPTIONS = (
    executor_option(
        "Where it runs: this machine, a Ray cluster, or a job of Slurm (docs/cluster.md).  [default: local]",
        *("local", "ray", "slurm"),
    ),
    RAY_ADDRESS,
)
EXECUTOR_NAMES = ("executor", "ray_address")
"""What they are called; a sweep and a plan have them among their `resources`."""


def executor_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add them to a command."""
    for option in reversed(EXECUTOR_OPTIONS):
        function = option(function)
    return function
