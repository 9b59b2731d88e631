"""What a stage of each kind takes of this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass

from agent_sft.config.sweep import ResourcesConfig
from agent_sft.errors import UserError
from agent_sft.runs.devices import Gpu, visible_gpus
from agent_sft.sweep.graph import Slots


@dataclass(frozen=True)
class Resources:
    """The shares of a sweep's stages."""

    gpus: tuple[Gpu, ...]
    """Those it may use."""
    cores: int
    """Processors that it may use; counted only where there is no GPU."""
    train: Slots
    serve: Slots
    prepare: Slots
    notes: tuple[str, ...]

    @property
    def processes(self) -> int | None:
        """Processes of a training: one for each of its GPUs; None without GPUs."""
        return self.train.gpus or None


def resources_of(config: ResourcesConfig, source: str) -> Resources:
    """Return what each stage takes, as far as this machine has it.

    Args:
        config: what was asked for.
        source: where that stands, as messages say it.

    Raises:
        UserError: it wants more than there is.
    """
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
        return Resources(gpus, cores, Slots(gpus=train), Slots(gpus=serve), Slots(), ())
    asked = [name for name in ("gpus", "gpus_per_train", "gpus_per_serve") if getattr(config, name) is not None]
    notes = (f"there is no GPU here: {', '.join(asked)} count for nothing, processors are shared out",) if asked else ()
    serve = config.cores_per_serve or 1
    train = config.cores_per_train or max(1, cores - serve)  # so that one variant is scored while the next one trains
    _check(train, cores, "processors", f"{source}, resources.cores_per_train")
    _check(serve, cores, "processors", f"{source}, resources.cores_per_serve")
    return Resources((), cores, Slots(cores=train), Slots(cores=serve), Slots(cores=1), notes)


def _check(wanted: int, there: int, what: str, where: str) -> None:
    if wanted > there:
        fix = "give it fewer, or let the sweep use more"
        raise UserError(f"{wanted} {what} are wanted, there are {there}", where=where, fix=fix)
