"""A Ray cluster of several machines that are all this one, with GPUs that are only said to be there.

Usage: ray_cluster.py FOLDER, in Ray's environment. Lines on standard input: `start` (the head, at the same address each
time), `add`, `remove ID` and `kill` (the head; the others' end is when it is there again: to it they are unknown, and
keep asking). Each is answered by a line of JSON. All of it ends with this process.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import sys
import time
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112 (as Ray spells it)

import ray
from ray.cluster_utils import Cluster

GPUS = 2

START_SECONDS = 300.0
"""How long a machine may take to start, on a busy one; Ray itself would give up after a tenth of that."""


class Patient:
    """Stands for the module `time`, with a clock that is slow."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def monotonic(self) -> float:
        return time.monotonic() / 10


ray._private.node.time = Patient()

# A cluster that somebody uses on this machine stays the one that is found there.
ray._private.utils.write_ray_address = lambda *_, **__: None


def free_port() -> int:
    """Return a port that nobody has, and that the system gives to nobody while the head is not there."""
    while True:
        port = random.randrange(20000, 32000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("", port))
            return port


def main() -> None:
    cluster, port, nodes = Cluster(), free_port(), dict[str, Any]()
    args = {"num_cpus": 1, "num_gpus": GPUS, "include_dashboard": False, "temp_dir": sys.argv[1]}
    for line in sys.stdin:
        match line.split():
            case ["start"]:
                node = cluster.add_node(wait=False, gcs_server_port=port, **args)
                cluster._wait_for_node(node, START_SECONDS)
                for unknown in [*cluster.worker_nodes]:
                    cluster.remove_node(unknown, allow_graceful=False)
            case ["add"]:
                node = cluster.add_node(wait=False, **args)
                cluster._wait_for_node(node, START_SECONDS)
            case ["remove", name]:
                cluster.remove_node(nodes.pop(name), allow_graceful=False)
            case ["kill"]:
                cluster.remove_node(cluster.head_node, allow_graceful=False)
        nodes[node.node_id] = node
        print(json.dumps({"address": cluster.address, "id": node.node_id}), flush=True)


if __name__ == "__main__":
    main()
