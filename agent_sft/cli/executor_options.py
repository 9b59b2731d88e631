"""The options that say where stages run."""

from __future__ import annotations

import click

EXECUTORS = ("local", "ray")

EXECUTOR_OPTIONS = (
    click.option(
        "--executor",
        type=click.Choice(EXECUTORS),
        help="Where stages run: this machine, or a Ray cluster (docs/cluster.md).  [default: local]",
    ),
    click.option(
        "--ray-address",
        metavar="HOST:PORT",
        help="The Ray cluster's.  [default: RAY_ADDRESS, or the one that runs on this machine]",
    ),
    click.option("--nodes-per-train", type=int, help="Machines of a cluster for each training.  [default: 1]"),
)
EXECUTOR_NAMES = ("executor", "ray_address", "nodes_per_train")
"""What they are called; a sweep and a plan have them among their `resources`."""
