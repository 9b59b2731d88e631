"""The GPUs that a command started here would see, and who holds their memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 1 << 20
TIMEOUT_SECONDS = 20.0
MEMORY_SECONDS = 60.0
MEMORY_SLACK = 0.02
"""Share of a GPU's memory by which what is free may differ from before."""
WSL_TOOL = Path("/usr/lib/wsl/lib/nvidia-smi")
"""Where Windows puts the tool for Linux; often not on PATH there."""


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, or one slice of one (MIG)."""

    index: int
    """The number that nvidia-smi gives it."""
    uuid: str
    name: str
    total_bytes: int | None
    """Its memory; None where the driver does not tell (slices, memory shared with the host)."""
    free_bytes: int | None
    compute_capability: float | None
    """8.0 is Ampere (A100), 9.0 Hopper (H100)."""


@dataclass(frozen=True)
class GpuProcess:
    """A process that holds memory of a GPU."""

    pid: int
    owner: str
    """User and program, as far as the system tells."""
    used_bytes: int | None


def visible_gpus(environment: Mapping[str, str] = os.environ) -> tuple[Gpu, ...]:
    """Return the GPUs that CUDA would use, in its order; empty where there is none, or no driver.

    CUDA_VISIBLE_DEVICES counts as CUDA reads it: numbers or UUIDs (their beginning is enough), up to the
    first entry that does not exist; empty means none. Numbers are taken as nvidia-smi's.

    Args:
        environment: where CUDA_VISIBLE_DEVICES is looked up.
    """
    rows = _query("gpu", "index,uuid,name,memory.total,memory.free,compute_cap")
    gpus = tuple(_gpu(row) for row in rows if len(row) == 6 and row[0].isdigit())
    selection = environment.get("CUDA_VISIBLE_DEVICES")
    return gpus if selection is None else _select(gpus, selection)


def gpu_processes() -> dict[str, tuple[GpuProcess, ...]]:
    """Return the processes that hold memory, by the UUID of their GPU. Inside a container it may be empty."""
    found: dict[str, tuple[GpuProcess, ...]] = {}
    for row in _query("compute-apps", "gpu_uuid,pid,used_memory"):
        if len(row) == 3 and row[1].isdigit():
            process = GpuProcess(int(row[1]), _owner(int(row[1])), _bytes(row[2]))
            found[row[0]] = (*found.get(row[0], ()), process)
    return found


def gpu_variables(indices: Sequence[int | str]) -> dict[str, str]:
    """Return the environment variables by which a command sees these GPUs alone, by nvidia-smi's numbers."""
    # CUDA counts in an order of its own unless it is told to take nvidia-smi's.
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, indices))}


def free_memory(gpus: Iterable[Gpu]) -> dict[str, int]:
    """Return the bytes that are free now on these GPUs, by their UUIDs, where the driver tells."""
    mine = {gpu.uuid for gpu in gpus}
    return {gpu.uuid: gpu.free_bytes for gpu in visible_gpus() if gpu.uuid in mine and gpu.free_bytes} if mine else {}


def wait_for_memory(before: Mapping[str, int], seconds: float = MEMORY_SECONDS) -> tuple[Gpu, ...]:
    """Wait until as much memory is free as before: a driver frees it a while after its processes are gone.

    A GPU that other processes use meanwhile is not waited for.

    Args:
        before: what `free_memory` told.
        seconds: how long to wait at most.

    Returns:
        The GPUs that still have less.
    """
    deadline = time.monotonic() + seconds
    while before:
        used = gpu_processes()
        held = tuple(
            gpu
            for gpu in visible_gpus()
            if (gpu.free_bytes or 0) + MEMORY_SLACK * (gpu.total_bytes or 0) < before.get(gpu.uuid, 0)
            and not used.get(gpu.uuid)
        )
        if not held or time.monotonic() >= deadline:
            return held
        time.sleep(0.5)
    return ()


def _query(what: str, fields: str) -> list[list[str]]:
    """Ask nvidia-smi for a table; empty when it is not there or has no driver to talk to."""
    tool = shutil.which("nvidia-smi") or (str(WSL_TOOL) if WSL_TOOL.exists() else None)
    if tool is None:
        return []
    command = [tool, f"--query-{what}={fields}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if answer.returncode != 0:
        return []
    return [[cell.strip() for cell in line.split(",")] for line in answer.stdout.splitlines() if line.strip()]


def _gpu(row: list[str]) -> Gpu:
    try:
        capability: float | None = float(row[5])
    except ValueError:
        capability = None
    return Gpu(int(row[0]), row[1], row[2], _bytes(row[3]), _bytes(row[4]), capability)


def _select(gpus: tuple[Gpu, ...], selection: str) -> tuple[Gpu, ...]:
    chosen: list[Gpu] = []
    for entry in (part.strip() for part in selection.split(",")):
        gpu = _find(gpus, entry)
        if gpu is None:
            break
        if gpu in chosen:
            return ()  # CUDA refuses the whole list when one device stands in it twice
        chosen.append(gpu)
    return tuple(chosen)


def _find(gpus: tuple[Gpu, ...], entry: str) -> Gpu | None:
    if entry.isdigit():
        return next((gpu for gpu in gpus if gpu.index == int(entry)), None)
    if entry.startswith("MIG-") and gpus:
        # nvidia-smi's table tells the whole card's memory, not the slice's.
        return Gpu(gpus[0].index, entry, f"slice of {gpus[0].name}", None, None, gpus[0].compute_capability)
    if entry.startswith("GPU-"):
        matches = [gpu for gpu in gpus if gpu.uuid.startswith(entry)]
        return matches[0] if len(matches) == 1 else None
    return None


def _bytes(mebibytes: str) -> int | None:
    return int(mebibytes) * MIB if mebibytes.isdigit() else None


def _owner(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return f"{process.username()}, {process.name()}"
    except psutil.Error:
        return "unknown"
