"""What a stage of each kind takes of this machine, or of one of a cluster's."""

from __future__ import annotations

import os
from dataclasses import dataclass

from agent_sft.config.sweep import ResourcesConfig
from agent_sft.errors import UserError
from agent_sft.report.numbers import counted
from agent_sft.runs.devices import Gpu, visible_gpus
from agent_sft.sweep.cluster import ClusterFacts, cluster_facts
from agent_sft.sweep.graph import Slots
from agent_sft.sweep.slots import Capacity


@dataclass(frozen=True)
class Resources:
    """The shares of a sweep's stages."""

    capacity: Capacity
    """What it may use."""
    gpus: tuple[Gpu, ...]
    """Those of it that a stage may find on the machine where it runs, as the driver describes them."""
    train: Slots
    serve: Slots
    prepare: Slots
    notes: tuple[str, ...]

    @property
    def cores(self) -> int:
        """Processors that it may use; counted only where there is no GPU."""
        return self.capacity.cores

    @property
    def launch(self) -> dict[str, int]:
        """How a training is started that does not say itself: a process for each of its GPUs, on its machines."""
        launch = {"nproc_per_node": self.train.gpus} if self.train.gpus else {}
        # The port is another one whenever it starts: nobody knows before which are free.
        return {**launch, "nnodes": self.train.nodes, "master_port": 29500} if self.train.nodes > 1 else launch


def resources_of(config: ResourcesConfig, source: str) -> Resources:
    """Return what each stage takes, as far as this machine, or the cluster, has it.

    Args:
        config: what was asked for.
        source: where that stands, as messages say it.

    Raises:
        UserError: it wants more than there is, or the cluster cannot be used.
    """
    if config.executor == "ray":
        return _of_cluster(config, cluster_facts(config.ray_address or "auto"), source)
    visible = visible_gpus()
    gpus = visible if config.gpus is None else tuple(gpu for gpu in visible if gpu.index in config.gpus)
    cores = config.cores or len(os.sched_getaffinity(0))
    if visible:
        for index in config.gpus or ():
            if index not in {gpu.index for gpu in visible}:
                there = ", ".join(str(gpu.index) for gpu in visible)
                raise UserError(
                    f"there is no GPU {index}", where=f"{source}, resources.gpus", fix=f"GPUs here: {there}"
                )
        train, serve = config.gpus_per_train or len(gpus), config.gpus_per_serve or 1
        _check(train, len(gpus), "GPUs", f"{source}, resources.gpus_per_train")
        _check(serve, len(gpus), "GPUs", f"{source}, resources.gpus_per_serve")
        capacity = Capacity(tuple(gpu.index for gpu in gpus), cores)
        return Resources(capacity, gpus, Slots(gpus=train), Slots(gpus=serve), Slots(), ())
    asked = [name for name in ("gpus", "gpus_per_train", "gpus_per_serve") if getattr(config, name) is not None]
    notes = (f"there is no GPU here: {', '.join(asked)} count for nothing, processors are shared out",) if asked else ()
    return _on_processors(config, Capacity((), cores), cores, source, notes)


def _of_cluster(config: ResourcesConfig, facts: ClusterFacts, source: str) -> Resources:
    """Return what each stage takes of one of a cluster's machines: a training all GPUs of the largest."""
    machines = facts.capacity.machines
    there = max((len(gpus) for gpus, _ in machines), default=0)
    if not there:
        for key in ("gpus_per_train", "gpus_per_serve"):
            _check(getattr(config, key) or 0, 0, "GPUs", f"{source}, resources.{key}", len(machines))
        cores = max((cores for _, cores in machines), default=0)
        return _on_processors(config, facts.capacity, cores, source, facts.notes)
    train, serve = config.gpus_per_train or there, config.gpus_per_serve or 1
    _check(train, there, "GPUs", f"{source}, resources.gpus_per_train", len(machines))
    _check(serve, there, "GPUs", f"{source}, resources.gpus_per_serve", len(machines))
    nodes = config.nodes_per_train
    _check_nodes(nodes, sum(len(gpus) >= train for gpus, _ in machines), counted(train, "GPU"), source)
    training = Slots(gpus=train, nodes=nodes)
    return Resources(facts.capacity, facts.gpus, training, Slots(gpus=serve), Slots(), facts.notes)


def _on_processors(
    config: ResourcesConfig, capacity: Capacity, cores: int, source: str, notes: tuple[str, ...]
) -> Resources:
    """Return what each stage takes where there is no GPU, of a machine with so many processors."""
    serve = config.cores_per_serve or 1
    train = config.cores_per_train or max(1, cores - serve)  # so that one variant is scored while the next one trains
    machines, nodes = len(capacity.machines), config.nodes_per_train
    _check_nodes(nodes, sum(has >= train for _, has in capacity.machines), counted(train, "processor"), source)
    _check(train, cores, "processors", f"{source}, resources.cores_per_train", machines)
    _check(serve, cores, "processors", f"{source}, resources.cores_per_serve", machines)
    return Resources(capacity, (), Slots(cores=train, nodes=nodes), Slots(cores=serve), Slots(cores=1), notes)


def _check_nodes(wanted: int, there: int, each: str, source: str) -> None:
    if wanted > max(1, there):
        raise UserError(
            f"{wanted} machines with {each} each are wanted, the cluster has {there}",
            where=f"{source}, resources.nodes_per_train",
            fix="give a training fewer, or less of each",
        )


def _check(wanted: int, there: int, what: str, where: str, machines: int = 1) -> None:
    if wanted > there:
        fix = "give it fewer, or let the sweep use more"
        largest = f" on the largest of {machines} machines" if machines > 1 else ""
        raise UserError(f"{wanted} {what} are wanted, there are {there}{largest}", where=where, fix=fix)
