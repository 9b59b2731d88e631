"""What a cluster has to share out, as it is when a command begins."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson

from agent_sft.engines.environments import repo_root
from agent_sft.engines.ray.cluster import WHERE, Answer, ClusterNode, look
from agent_sft.errors import UserError
from agent_sft.runs.devices import Gpu
from agent_sft.sweep.slots import Capacity, Node

_GPUS = """
import dataclasses, orjson, sys
from agent_sft.runs.devices import visible_gpus
sys.stdout.buffer.write(orjson.dumps([dataclasses.asdict(gpu) for gpu in visible_gpus({})]))
"""


@dataclass(frozen=True)
class ClusterFacts:
    """A cluster when it was looked at."""

    address: str
    capacity: Capacity
    gpus: tuple[Gpu, ...]
    """What the driver of its machine with the most GPUs tells of them; fewer, where the cluster was told of more."""
    notes: tuple[str, ...]


def far_python(program: str) -> list[str]:
    """Return the command that runs a program with our Python and our package on a machine that sees both."""
    # -I: what the cluster's processes were started with is none of ours.
    return [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(repo_root())!r}){program}"]


@cache
def cluster_facts(address: str) -> ClusterFacts:
    """Look at a cluster, once in a process.

    Args:
        address: HOST:PORT, or `auto`.

    Raises:
        UserError: nobody answers there, or a machine does not see this clone or this folder.
        WorkFailed: the Ray environment does not work.
    """
    found = look(address, far_python(_GPUS), Path.cwd())
    nodes = named([node for node, _ in found])
    seen = {node.id: _gpus(node, answer) for node, (_, answer) in zip(nodes, found, strict=True)}
    largest = max(nodes, key=lambda node: node.gpus)
    gpus = seen[largest.id][: largest.gpus]
    return ClusterFacts(address, Capacity.of(nodes), gpus, _notes(nodes, seen))


def named(found: Sequence[ClusterNode]) -> tuple[Node, ...]:
    """Return the machines, each called by its host, and by the beginning of its id where several have that."""
    hosts = Counter(node.name for node in found)
    return tuple(
        Node(
            node.id,
            node.name if hosts[node.name] == 1 else f"{node.name}/{node.id[:6]}",
            node.gpus,
            node.cores,
            here=node.here,
        )
        for node in found
    )


def _gpus(node: Node, answer: Answer) -> tuple[Gpu, ...]:
    if answer.status != 0:
        said = answer.output.strip().splitlines() or ["it printed nothing"]
        raise UserError(
            f"{node.name} cannot run agent-sft here: {said[-1]}",
            where=WHERE,
            fix=f"all machines of the cluster must see {repo_root()} and {Path.cwd()} at the same place, and the"
            f" Python of {sys.prefix}",
        )
    return tuple(Gpu(**gpu) for gpu in orjson.loads(answer.output))


def _notes(nodes: Sequence[Node], seen: dict[str, tuple[Gpu, ...]]) -> tuple[str, ...]:
    names = sorted({gpu.name for node in nodes for gpu in seen[node.id][: node.gpus]})
    if len(names) < 2:
        return ()
    return (f"the cluster's GPUs differ ({', '.join(names)}): stages are planned for those of its largest machine",)
