"""Will it fit: the GPUs' memory, the machine's own, and the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from agent_sft.engines.deepspeed.config import DeepSpeedConfig
from agent_sft.engines.llamafactory.memory import (
    GIB,
    HOST_FACTOR,
    RUNTIME_BYTES,
    MemoryEstimate,
    Sharding,
    checkpoint_bytes,
    checkpoints_at_once,
    estimate_memory,
)
from agent_sft.engines.llamafactory.shape import ModelShape
from agent_sft.runs.devices import Gpu, gpu_processes
from agent_sft.stages.doctor_case import Finding

TINY_RUN_BYTES = 32 << 20
"""0.5 M parameters: the model twice (2 MB each), two checkpoints with Adam's moments (6 MB each), data and logs."""
LESS_DISK = "free some space, or choose an --output-dir on another disk"

CGROUP_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)
"""Where a container reads how much memory it may use, and uses: the newer and the older place."""


def fit_memory(
    shape: ModelShape, arguments: dict[str, Any], sharding: Sharding, gpus: tuple[Gpu, ...]
) -> Iterator[Finding]:
    """Hold the memory that the training needs against what there is.

    What cannot fit whatever the examples' length is a failure. What may not fit at the longest example that
    `cutoff_len` allows is a warning: shorter ones may be all there are.
    """
    estimate = estimate_memory(shape, arguments, sharding)
    if estimate is None:
        yield Finding("warn", "memory", "not estimated: the settings name a method with a memory use of its own")
        return
    if gpus:
        used = gpus[: sharding.processes]
        yield _on_gpus(shape, arguments, sharding, estimate, used)
        if estimate.host:
            yield _on_host(estimate)
    else:
        yield _on_cpu(estimate, sharding.processes)


def sharding_of(config: DeepSpeedConfig | None, *, processes: int, nodes: int) -> Sharding:
    """Return how a training by this DeepSpeed configuration, if any, is spread over GPUs."""
    return Sharding(
        stage=config.stage if config else None,
        offload_optimizer=bool(config and config.offload_optimizer),
        offload_parameters=bool(config and config.offload_param),
        processes=processes,
        nodes=nodes,
    )


def fit_disk(shape: ModelShape, arguments: dict[str, Any], stage: int | None, output_dir: Path) -> Finding:
    """Hold the size of the checkpoints that will be kept against the free space."""
    one, final = checkpoint_bytes(shape, arguments, stage)
    count = checkpoints_at_once(arguments)
    free = _free_bytes(output_dir) + _already_there(output_dir)
    need = final + one * (1 if count is None else count)
    kept = "each" if count is None else f"{count} at once"
    said = f"checkpoints of {gib(one)} ({kept}) and the model, {gib(final)}: {gib(need)} of {gib(free)} free"
    if free < final + (one if count != 0 else 0):
        return Finding("fail", "disk", said, _less_disk(arguments))
    if free < need:
        return Finding("warn", "disk", said, _less_disk(arguments))
    if count is None and free < need + 2 * one:
        return Finding("warn", "disk", f"{said}; not every checkpoint may fit", _less_disk(arguments))
    return Finding("ok", "disk", said)


def fit_tiny(output_dir: Path) -> Finding:
    """Hold what a run with the tiny model writes against the free space."""
    free = _free_bytes(output_dir) + _already_there(output_dir)
    said = f"a run with the tiny model takes {gib(TINY_RUN_BYTES)} of {gib(free)} free"
    return Finding("fail", "disk", said, LESS_DISK) if free < TINY_RUN_BYTES else Finding("ok", "disk", said)


def host_memory() -> tuple[int, int]:
    """Return this machine's memory and what of it is available, in bytes; a container's limit counts."""
    memory = psutil.virtual_memory()
    total, available = int(memory.total), int(memory.available)
    for limit_file, used_file in CGROUP_LIMITS:
        try:
            limit, used = int(limit_file.read_text()), int(used_file.read_text())
        except (OSError, ValueError):
            continue  # no such control group, or "max": no limit
        if limit < total:
            total, available = limit, min(available, max(0, limit - used))
    return total, available


def existing_parent(path: Path) -> Path:
    """Return `path`, or the nearest folder above it that exists."""
    absolute = path.absolute()
    return next(place for place in (absolute, *absolute.parents) if place.exists())


def gib(count: float) -> str:
    """Return bytes as people say them."""
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / (1 << 20):.0f} MiB"


def _on_gpus(
    shape: ModelShape,
    arguments: dict[str, Any],
    sharding: Sharding,
    estimate: MemoryEstimate,
    gpus: tuple[Gpu, ...],
) -> Finding:
    sizes = [gpu.total_bytes for gpu in gpus if gpu.total_bytes is not None]
    said = f"each GPU needs about {gib(estimate.total)}: {_parts(estimate)}"
    if len(sizes) < len(gpus):
        return Finding("warn", "GPU memory", f"{said}; how much there is, the driver does not tell")
    size = min(sizes)
    tightest = min(gpus, key=lambda gpu: gpu.free_bytes or 0)
    free = tightest.free_bytes or 0
    certain = estimate.states + RUNTIME_BYTES
    said += f"; there are {gib(size)}"
    if certain > size:
        return Finding("fail", "GPU memory", said, _what_fits(shape, arguments, sharding, size))
    if certain > free:
        held = f"GPU {tightest.index} has only {gib(free)} free{_holders(tightest)}"
        return Finding(
            "fail", "GPU memory", f"{said}, but {held}", "wait for it, or choose other GPUs with CUDA_VISIBLE_DEVICES"
        )
    if estimate.total > free:
        longest = arguments.get("cutoff_len", 2048)
        return Finding(
            "warn",
            "GPU memory",
            f"{said}, {gib(free)} free: examples of {longest} tokens may not fit",
            _what_fits(shape, arguments, sharding, free),
        )
    return Finding("ok", "GPU memory", said)


def _on_host(estimate: MemoryEstimate) -> Finding:
    total, available = host_memory()
    there = f"{gib(available)} of {gib(total)} available"
    said = f"offloading needs about {gib(estimate.host)} of this machine's memory: {there}"
    if estimate.host / HOST_FACTOR > total:
        return Finding(
            "fail", "host memory", said, "offload less (ds_configs/ds_zero3_no_offload.json), or use more machines"
        )
    if estimate.host > available:
        return Finding("warn", "host memory", said, "end what else runs here")
    return Finding("ok", "host memory", said)


def _on_cpu(estimate: MemoryEstimate, processes: int) -> Finding:
    total, available = host_memory()
    states = estimate.states * processes + estimate.host
    need = states + (estimate.activations + estimate.logits) * processes
    said = (
        f"without a GPU it needs about {gib(need)} of this machine's memory: {gib(available)} of {gib(total)} available"
    )
    if states > total:
        return Finding("fail", "memory", said, "use a smaller model, or a machine with a GPU")
    return Finding("warn" if need > available else "ok", "memory", said)


def _parts(estimate: MemoryEstimate) -> str:
    parts = {
        "weights": estimate.weights,
        "gradients": estimate.gradients,
        "optimizer": estimate.optimizer,
        "activations": estimate.activations,
        "logits": estimate.logits,
    }
    return ", ".join(f"{name} {gib(size)}" for name, size in parts.items() if size)


def _holders(gpu: Gpu) -> str:
    held = gpu_processes().get(gpu.uuid, ())
    names = [f"process {one.pid} ({one.owner}) holds {gib(one.used_bytes or 0)}" for one in held]
    return f": {'; '.join(names)}" if names else ""


def _what_fits(shape: ModelShape, arguments: dict[str, Any], sharding: Sharding, size: int) -> str:
    """Name the least change of the settings that would fit into `size` bytes of each GPU."""
    liger = arguments | {"enable_liger_kernel": True}
    lora = liger | {"finetuning_type": "lora"}
    two = replace(sharding, stage=2, offload_optimizer=False, offload_parameters=False)
    three = replace(two, stage=3)
    offload = replace(three, offload_optimizer=True, offload_parameters=True)
    changes = (
        ("--set enable_liger_kernel=true", liger, sharding),
        ("--deepspeed ds_configs/ds_zero2.json", arguments, two),
        ("--deepspeed ds_configs/ds_zero3_no_offload.json", arguments, three),
        ("--deepspeed ds_configs/ds_zero3.json", arguments, offload),
        ("--deepspeed ds_configs/ds_zero3.json --set enable_liger_kernel=true", liger, offload),
        ("--finetuning-type lora --set enable_liger_kernel=true", lora, sharding),
        ("--finetuning-type lora --deepspeed ds_configs/ds_zero3.json --set enable_liger_kernel=true", lora, offload),
    )
    for flags, settings, spread in changes:
        estimate = estimate_memory(shape, settings, spread)
        if estimate is not None and estimate.total <= size:
            return f"{flags} would need {gib(estimate.total)}"
    return "use more or larger GPUs, a smaller model, or a smaller --cutoff-len"


def _free_bytes(output_dir: Path) -> int:
    return shutil.disk_usage(existing_parent(output_dir)).free


def _already_there(output_dir: Path) -> int:
    """Return the bytes of checkpoints that an earlier attempt left, which new ones replace."""
    return sum(path.stat().st_size for path in output_dir.glob("checkpoint-*/**/*") if path.is_file())


def _less_disk(arguments: dict[str, Any]) -> str:
    if arguments.get("save_strategy") != "no":
        return (
            'free some space, choose another --output-dir, or --set save_strategy="no" (a stopped run then starts over)'
        )
    return LESS_DISK
