"""A fast setting being weighed: the facts of the machine, the settings decided so far, the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GIB = 1 << 30


@dataclass(frozen=True)
class Switch:
    """One setting that was weighed."""

    key: str
    """LLaMA-Factory's name for it."""
    value: Any
    """What it becomes, or would have become."""
    reason: str
    """Why it is used, or why not."""
    applied: bool

    @property
    def line(self) -> str:
        """The decision in one line."""
        if self.applied:
            return f"--fast: {self.key}: {self.value} ({self.reason})"
        return f"--fast: not {self.key}: {self.value} ({self.reason})"


@dataclass(frozen=True)
class FastMachine:
    """What must be known of the machine, the engine and the model."""

    gpus: int
    """GPUs on this machine that train; 0 means the CPU trains."""
    gpu_bytes: int | None
    """Memory of the smallest of them."""
    compute_capability: float | None
    """8.0 is Ampere (A100), 9.0 Hopper (H100)."""
    cpus: int
    """Processors of this machine."""
    flash_attention: bool
    """Whether flash-attn 2 is installed and loads."""
    liger: bool
    """Whether liger-kernel is installed and loads."""
    liger_models: frozenset[str]
    """Model types for which this LLaMA-Factory applies Liger's kernels."""
    model_type: str | None
    """`model_type` of the model's config.json, if that is at hand."""
    memory_needed: Callable[[dict[str, Any]], int | None] | None
    """Estimates the bytes that a training by these settings needs on each GPU; None where it cannot tell."""


@dataclass
class Weighing:
    """The settings as decided so far, and the facts to decide the next by."""

    arguments: dict[str, Any]
    machine: FastMachine
    lengths: Sequence[int] | None
    given: frozenset[str]
    wanted: Mapping[str, Any]

    def weigh(self, key: str, value: Any, reason: str, obstacle: str | None) -> Switch:
        """Apply a setting unless the user set it or something stands in its way."""
        if key in self.given:
            return Switch(key, value, f"you set it to {self.arguments.get(key)}", applied=False)
        if obstacle is not None:
            return Switch(key, value, obstacle, applied=False)
        self.arguments[key] = value
        return Switch(key, value, reason, applied=True)

    def number(self, key: str, default: int) -> int:
        """Return a setting as a number."""
        value = self.arguments.get(key)
        return default if value is None else int(value)

    @property
    def per_step(self) -> int:
        """Conversations per optimizer step and device."""
        return self.number("per_device_train_batch_size", 8) * self.number("gradient_accumulation_steps", 1)

    @property
    def packed(self) -> bool:
        """Whether rows hold several conversations."""
        return bool(self.arguments.get("packing") or self.arguments.get("neat_packing"))

    @property
    def evaluates(self) -> bool:
        """Whether there is an evaluation during or after the training."""
        return bool(self.arguments.get("eval_dataset") or self.arguments.get("val_size"))

    def room(self, changes: Mapping[str, Any], share: float) -> tuple[bool, str]:
        """Tell whether the settings with these changes stay below this share of a GPU's memory, and the figures."""
        candidate = {**self.arguments, **changes}
        packed = candidate.get("packing") or candidate.get("neat_packing")
        if not packed and self.lengths:
            candidate["cutoff_len"] = min(max(self.lengths), int(candidate.get("cutoff_len", 2048)))
        needed = self.machine.memory_needed(candidate) if self.machine.memory_needed else None
        if needed is None or self.machine.gpu_bytes is None:
            return False, "the memory it needs cannot be estimated"
        have = self.machine.gpu_bytes
        return needed <= share * have, f"about {needed / GIB:.0f} of {have / GIB:.0f} GiB"
