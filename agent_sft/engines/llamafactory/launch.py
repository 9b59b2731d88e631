"""The command line and environment that a training is started with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_sft.engines.forks.sharing import Shared
from agent_sft.engines.llamafactory.facts import INSIDE


@dataclass(frozen=True)
class Launch:
    """Processes and machines that train together."""

    processes: int
    """Processes on this machine."""
    nodes: int
    """Machines."""
    node_rank: int
    master_addr: str
    master_port: int | None

    @property
    def world_size(self) -> int:
        """Processes in all."""
        return self.processes * self.nodes


def training_command(
    python: Path,
    launch: Launch,
    yaml: Path,
    attempt: Path,
    *,
    deepspeed: bool,
    started: Callable[[Sequence[str]], list[str]] = list,
) -> list[str]:
    """Return the command that trains by `yaml`.

    One process is started directly; several, and DeepSpeed always, through torchrun. The settings travel
    in the file: LLaMA-Factory's own launcher splits its arguments at spaces.

    Args:
        python: the train environment's.
        launch: processes and machines.
        yaml: LLaMA-Factory's settings.
        attempt: folder in which the trainer and we exchange what is going on.
        deepspeed: whether the settings name a DeepSpeed configuration.
        started: returns the command by which each process is started, given what it runs.
    """
    program = started([str(python), str(INSIDE / "train.py"), str(yaml), str(attempt)])
    if launch.world_size == 1 and not deepspeed:
        return program
    torchrun = [
        str(python),
        "-m",
        "torch.distributed.run",
        f"--nnodes={launch.nodes}",
        f"--node-rank={launch.node_rank}",
        f"--nproc-per-node={launch.processes}",
    ]
    if launch.nodes == 1 and launch.master_port is None:
        # A rendezvous of torchrun's own on a port that the system chooses cannot collide with another run's.
        torchrun += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    else:
        torchrun += [f"--master-addr={launch.master_addr}", f"--master-port={launch.master_port}"]
    return [*torchrun, "--no-python", *program]


LEFT_OUT = frozenset({"wandb", "mlflow"})
"""Trackers that what is forked has not imported."""
_UNREAD = (
    "VLLM_",
    # What `begin` sees to.
    "HF_DATASETS_CACHE",
    # What LLaMA-Factory's server is told.
    "API_",
    # What torchrun tells its processes, and what we tell those of several.
    *("GROUP_", "LOCAL_", "MASTER_", "RANK", "ROLE_", "TORCHELASTIC_", "TORCH_NCCL_", "WORLD_SIZE"),
    *("PYTORCH_CUDA_ALLOC_CONF", "TORCH_EXTENSIONS_DIR"),
    # Where the trainer writes what TensorBoard shows.
    "TENSORBOARD_LOGGING_DIR",
)
SHARED = Shared("train", INSIDE / "imported.py", _UNREAD)
"""For what does not report to the trackers that are left out."""
SHARED_DEEPSPEED = Shared("train", INSIDE / "imported_deepspeed.py", _UNREAD, "deepspeed")
"""Likewise, for trainings by DeepSpeed: others have imported LLaMA-Factory without it."""


def training_environment(python: Path, launch: Launch, *, gpus: int) -> dict[str, str]:
    """Return the environment variables of a training: ours, with what the engine needs."""
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    # DeepSpeed compiles its CPU optimizer with the ninja that lies beside the environment's Python.
    environment["PATH"] = os.pathsep.join([str(python.parent), environment.get("PATH", os.defpath)])
    environment["PYTHONUNBUFFERED"] = "1"
    if launch.world_size > 1:
        # As LLaMA-Factory's own launcher sets them.
        environment.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
        environment.setdefault("TORCH_NCCL_AVOID_RECORD_STREAMS", "1")
    if not gpus and launch.processes > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // launch.processes)))
    return environment


COMMAND = INSIDE / "command.py"
"""The program of LLaMA-Factory's own commands, those that train aside."""


def shown_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that differ from our own: what a reader needs to repeat the command."""
    return {name: value for name, value in environment.items() if os.environ.get(name) != value}


_NOT_PASSED_ON = frozenset(
    {
        # Would make LLaMA-Factory's launcher or torchrun read a topology that is not this run's.
        *("FORCE_TORCHRUN", "NNODES", "NODE_RANK", "NPROC_PER_NODE", "MASTER_ADDR", "MASTER_PORT"),
        *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK"),
        *("VIRTUAL_ENV", "USE_RAY"),
    }
)
