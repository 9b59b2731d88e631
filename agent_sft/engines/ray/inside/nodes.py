"""Prints which machines a cluster has, and what a command says on each of them.

Standard input: {"address", "command", "folder", "seconds"}. Result: {"nodes": [...]}, each as `described` and with
`asked`: the command's exit status and output there; or {"refused", "fix"}.
"""

import json
import os
import subprocess
import sys
from typing import Any

from joining import Refused, join


def described(node: dict[str, Any], here: str) -> dict[str, Any]:
    """Return what is told of a machine."""
    has = node["Resources"]
    return {
        "id": node["NodeID"],
        "name": node["NodeManagerHostname"],
        "address": node["NodeManagerAddress"],
        "gpus": int(has.get("GPU", 0)),
        "cores": int(has.get("CPU", 0)),
        "here": node["NodeID"] == here,
    }


def living(ray: Any) -> list[dict[str, Any]]:
    """Return the machines of the cluster that live now."""
    here = ray.get_runtime_context().get_node_id()
    return sorted((described(node, here) for node in ray.nodes() if node["Alive"]), key=lambda node: str(node["id"]))


def ask(command: list[str], folder: str, seconds: float) -> dict[str, Any]:
    """Run a command on the machine that this is called on."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except OSError as error:
        return {"status": 127, "output": f"{error.filename}: {error.strerror}"}
    except subprocess.TimeoutExpired:
        return {"status": 124, "output": f"it took longer than {seconds:g} s"}
    return {"status": done.returncode, "output": done.stdout if done.returncode == 0 else done.stderr[-2000:]}


def look(request: dict[str, Any]) -> dict[str, Any]:
    """Return the cluster's machines and their answers."""
    join(request["address"])
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = living(ray)
    asking = ray.remote(num_cpus=0, max_retries=0)(ask)
    given = (request["command"], request["folder"], request["seconds"])
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node_id=node["id"], soft=False)
        node["asked"] = asking.options(scheduling_strategy=there).remote(*given)
    for node in nodes:
        try:
            node["asked"] = ray.get(node["asked"], timeout=request["seconds"] + 30)
        except Exception as error:
            node["asked"] = {"status": 1, "output": " ".join(str(error).split())[:500]}
    return {"nodes": nodes}


def main() -> None:
    """Answer the request on standard input."""
    try:
        found = look(json.load(sys.stdin))
    except Refused as refused:
        found = {"refused": refused.what, "fix": refused.fix}
    print(json.dumps(found), file=sys.__stdout__)


if __name__ == "__main__":
    main()
