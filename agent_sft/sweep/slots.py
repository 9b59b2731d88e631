"""Shares of the machine: GPUs, or processors where there is none, handed out to jobs and given back."""

from __future__ import annotations

from dataclasses import dataclass

from agent_sft.errors import UserError
from agent_sft.runs.devices import gpu_variables
from agent_sft.sweep.graph import Job, Slots


@dataclass(frozen=True)
class Capacity:
    """What there is to share out."""

    gpus: tuple[int, ...]
    """nvidia-smi's numbers."""
    cores: int
    """Processors; counted only where there is no GPU."""


@dataclass(frozen=True)
class Share:
    """What one job has while it runs."""

    gpus: tuple[int, ...]
    cores: int
    on_gpus: bool
    """Whether this machine's GPUs are what is shared out."""

    @property
    def words(self) -> list[str]:
        """Return what it is, for people: `gpu 0`, `gpu 1`, or `cores 2`."""
        if self.on_gpus:
            return [f"gpu {index}" for index in self.gpus]
        return [f"cores {self.cores}"] if self.cores else []

    def environment(self) -> dict[str, str]:
        """Return the variables by which a job, and all that it starts, uses its share alone."""
        if self.on_gpus:
            return gpu_variables(self.gpus)
        if not self.cores:
            return {}
        threads = str(self.cores)
        return {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            # vLLM would tie its threads to processors by its own count, the same ones for every server here.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }


class Pool:
    """What is free of a capacity."""

    def __init__(self, capacity: Capacity, jobs: int | None = None) -> None:
        """Make a pool of which nothing is taken.

        Args:
            capacity: what there is.
            jobs: shares that may be taken at the same time; None for as many as there are.
        """
        self.capacity = capacity
        self._free = list(capacity.gpus)
        self._cores = capacity.cores
        self._jobs = jobs

    @property
    def on_gpus(self) -> bool:
        """Whether GPUs are what is shared out."""
        return bool(self.capacity.gpus)

    def fits(self, slots: Slots) -> bool:
        """Tell whether so much is free now."""
        if self._jobs == 0:
            return False
        return slots.gpus <= len(self._free) if self.on_gpus else slots.cores <= self._cores

    def take(self, slots: Slots) -> Share | None:
        """Take a share, or None where not so much is free."""
        if not self.fits(slots):
            return None
        if self._jobs is not None:
            self._jobs -= 1
        if not self.on_gpus:
            self._cores -= slots.cores
            return Share((), slots.cores, on_gpus=False)
        gpus, self._free = tuple(self._free[: slots.gpus]), self._free[slots.gpus :]
        return Share(gpus, 0, on_gpus=True)

    def give_back(self, share: Share) -> None:
        """Give a share back, once."""
        if self._jobs is not None:
            self._jobs += 1
        self._free = sorted([*self._free, *share.gpus])
        self._cores += share.cores

    def check(self, jobs: tuple[Job, ...]) -> None:
        """Refuse jobs that could never start.

        Raises:
            UserError: naming the first that wants more than there is.
        """
        there, kind = (len(self.capacity.gpus), "gpus") if self.on_gpus else (self.capacity.cores, "cores")
        for job in jobs:
            wanted = getattr(job.slots, kind)
            if wanted > there:
                raise UserError(
                    f"{job.id} wants {wanted} {kind}, there are {there}",
                    where="resources",
                    fix=f"give it fewer ({kind}_per_train, {kind}_per_serve), or let the sweep use more",
                )
