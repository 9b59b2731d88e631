"""A Ray cluster of several machines that are all this one, with GPUs that are only said to be there.

Usage: ray_cluster.py FOLDER, in Ray's environment. Lines on standard input: `start` (the head, at the same address each
time), `add`, `remove ID` and `kill` (the head; what is not killed with it ends by itself). Each is answered by a line
of JSON. All of it ends with this process.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112 (as Ray spells it)

import ray
from ray.cluster_utils import Cluster

GPUS = 2

# A cluster that somebody uses on this machine stays the one that is found there.
ray._private.utils.write_ray_address = lambda *_, **__: None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    cluster, port, nodes = Cluster(), free_port(), dict[str, Any]()
    args = {"num_cpus": 1, "num_gpus": GPUS, "include_dashboard": False, "temp_dir": sys.argv[1]}
    for line in sys.stdin:
        match line.split():
            case ["start"]:
                node = cluster.add_node(gcs_server_port=port, **args)
            case ["add"]:
                node = cluster.add_node(**args)
            case ["remove", name]:
                cluster.remove_node(nodes.pop(name), allow_graceful=False)
            case ["kill"]:
                cluster.remove_node(cluster.head_node, allow_graceful=False)
        nodes[node.node_id] = node
        print(json.dumps({"address": cluster.address, "id": node.node_id}), flush=True)


if __name__ == "__main__":
    main()
