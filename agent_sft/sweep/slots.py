"""Shares of the machine: GPUs, or processors where there is none, handed out to jobs and given back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent_sft.errors import UserError
from agent_sft.runs.devices import gpu_variables
from agent_sft.sweep.graph import Job, Slots


@dataclass(frozen=True)
class Node:
    """A machine of a cluster."""

    id: str
    """By which the cluster knows it; another one when it was started again."""
    name: str
    """By which people know it."""
    gpus: int
    cores: int
    here: bool = False
    """Whether it is the one that this process runs on."""


ANY = Node("", "a machine of the cluster", 0, 0)
"""In a share: whichever machine of a cluster has so much to spare. The cluster chooses it."""


@dataclass(frozen=True)
class Capacity:
    """What there is to share out."""

    gpus: tuple[int, ...]
    """nvidia-smi's numbers; of a cluster only as many as there are."""
    cores: int
    """Processors; counted only where there is no GPU."""
    nodes: tuple[Node, ...] | None = None
    """The machines of a cluster that these are spread over; None for this machine."""

    @classmethod
    def of(cls, nodes: Sequence[Node]) -> Capacity:
        """Return what the machines of a cluster have together."""
        gpus = sum(node.gpus for node in nodes)
        return cls(tuple(range(gpus)), sum(node.cores for node in nodes), tuple(nodes))

    @property
    def machines(self) -> tuple[tuple[tuple[int, ...], int], ...]:
        """Return GPUs and processors, machine by machine."""
        if self.nodes is None:
            return ((self.gpus, self.cores),)
        return tuple((tuple(range(node.gpus)), node.cores) for node in self.nodes)


@dataclass(frozen=True)
class Share:
    """What one job has while it runs."""

    gpus: tuple[int, ...]
    cores: int
    on_gpus: bool
    """Whether GPUs are what is shared out."""
    nodes: tuple[Node, ...] = ()
    """The machines of a cluster on which it has these, as many on each; none where it is this machine."""

    @property
    def words(self) -> list[str]:
        """Return what it is, for people: `gpu 0`, `gpu 1`, or `cores 2`; of a cluster `NODE: 2 gpus`."""
        if self.nodes:
            number, what = (len(self.gpus) // len(self.nodes), "gpu") if self.on_gpus else (self.cores, "core")
            return [f"{node.name}: {number} {what}{'' if number == 1 else 's'}" for node in self.nodes]
        if self.on_gpus:
            return [f"gpu {index}" for index in self.gpus]
        return [f"cores {self.cores}"] if self.cores else []

    def environment(self) -> dict[str, str]:
        """Return the variables by which a job, and all that it starts, uses its share alone.

        Which GPUs of a cluster's machine a job has, the cluster says when it has placed the job.
        """
        if self.on_gpus:
            return {} if self.nodes else gpu_variables(self.gpus)
        if not self.cores:
            return {}
        threads = str(self.cores)
        return {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            # vLLM would tie its threads to processors by its own count, the same ones for every server here.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }


@dataclass
class _Machine:
    """What is free of one machine."""

    node: Node | None
    gpus: list[int]
    cores: int


class Pool:
    """What is free of a capacity."""

    def __init__(self, capacity: Capacity, jobs: int | None = None) -> None:
        """Make a pool of which nothing is taken.

        Args:
            capacity: what there is.
            jobs: shares that may be taken at the same time; None for as many as there are.
        """
        self.capacity = capacity
        self._on_gpus = bool(capacity.gpus)
        self._machines = {machine.node: machine for machine in _machines(capacity)}
        self._jobs = jobs

    @property
    def on_gpus(self) -> bool:
        """Whether GPUs are what is shared out; a cluster that has lost those that it had is still one of GPUs."""
        return self._on_gpus

    def refresh(self, capacity: Capacity) -> None:
        """Take note of machines that came to a cluster, and of those that are gone; what was taken there is, too."""
        if capacity == self.capacity:
            return
        now = {machine.node: machine for machine in _machines(capacity)}
        self._machines = {node: self._machines.get(node, machine) for node, machine in now.items()}
        self.capacity = capacity

    def fits(self, slots: Slots) -> bool:
        """Tell whether so much is free now."""
        return self._jobs != 0 and self._chosen(slots) is not None

    def take(self, slots: Slots) -> Share | None:
        """Take a share, or None where not so much is free."""
        chosen = self._chosen(slots) if self._jobs != 0 else None
        if chosen is None:
            return None
        if self._jobs is not None:
            self._jobs -= 1
        nodes = tuple(machine.node for machine in chosen if machine.node is not None)
        if not self.on_gpus:
            for machine in chosen:
                machine.cores -= slots.cores
            return Share((), slots.cores, on_gpus=False, nodes=nodes)
        gpus: tuple[int, ...] = ()
        for machine in chosen:
            gpus, machine.gpus = (*gpus, *machine.gpus[: slots.gpus]), machine.gpus[slots.gpus :]
        return Share(gpus, 0, on_gpus=True, nodes=nodes)

    def give_back(self, share: Share) -> None:
        """Give a share back, once."""
        if self._jobs is not None:
            self._jobs += 1
        nodes: tuple[Node | None, ...] = share.nodes or (None,)
        each = len(share.gpus) // len(nodes)
        for number, node in enumerate(nodes):
            if (machine := self._machines.get(node)) is not None:  # else it is gone, and what was taken of it
                machine.gpus = sorted([*machine.gpus, *share.gpus[number * each : (number + 1) * each]])
                machine.cores += share.cores

    def check(self, jobs: tuple[Job, ...]) -> None:
        """Refuse jobs that could never start.

        Raises:
            UserError: naming the first that wants more than there is.
        """
        kind = "gpus" if self.on_gpus else "cores"
        have = [len(gpus) if self.on_gpus else cores for gpus, cores in self.capacity.machines]
        for job in jobs:
            wanted, there = getattr(job.slots, kind), max(have, default=0)
            enough = sum(number >= wanted for number in have)
            if enough < job.slots.nodes:
                largest = "" if self.capacity.nodes is None else f" on the largest of {len(have)} machines"
                several = f"{wanted} {kind} on each of {job.slots.nodes} machines, {enough} have as many"
                what = several if job.slots.nodes > 1 else f"{wanted} {kind}, there are {there}{largest}"
                raise UserError(
                    f"{job.id} wants {what}",
                    where="resources",
                    fix=f"give it fewer ({kind}_per_train, {kind}_per_serve), or let the sweep use more",
                )

    def _chosen(self, slots: Slots) -> list[_Machine] | None:
        """Return the machines of a share; None where not so much is free.

        Of those that would do, the one with the least left: what needs a whole machine finds one more often. What
        takes nothing goes to this machine, where it is one of them.
        """
        if not slots.gpus if self.on_gpus else not slots.cores:
            all_of_them = sorted(self._machines.values(), key=lambda one: one.node is not None and not one.node.here)
            return all_of_them[:1] or None
        free = [
            machine
            for machine in self._machines.values()
            if (slots.gpus <= len(machine.gpus) if self.on_gpus else slots.cores <= machine.cores)
        ]
        free.sort(key=lambda one: len(one.gpus) if self.on_gpus else one.cores)
        return free[: slots.nodes] if len(free) >= slots.nodes else None


def _machines(capacity: Capacity) -> Iterator[_Machine]:
    nodes = capacity.nodes if capacity.nodes is not None else (None,)
    for node, (gpus, cores) in zip(nodes, capacity.machines, strict=True):
        yield _Machine(node, list(gpus), cores)
