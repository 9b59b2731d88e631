"""When each of the fast settings is safe and of use, one rule for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from agent_sft.engines.llamafactory.packing import Packing, choose_packing
from agent_sft.engines.llamafactory.weighing import FastMachine, Switch, Weighing

CLEARLY = 0.75
"""Share of a GPU's memory that an estimate may reach for gradient checkpointing to go: it is an estimate."""
SAFELY = 0.85
"""Share of a GPU's memory that an estimate may reach for a larger batch."""
TOKENS_AT_ONCE = 16384
"""Tokens in one forward pass from which on more of them do not make a GPU faster."""
WORKER_ROWS = 1000
"""Conversations that make another tokenising process worth starting."""
SAME_STEP = 0.10
"""How far packing may move the mean number of conversations per optimizer step."""
FULL_ROW = 1.1
"""Conversations that a packed row must hold on average for packing to be of use."""
LONGER_ROWS = 2
"""How many times longer than the cutoff a packed row may be, where memory allows."""
NEVER_PACKED = frozenset({"gemma4", "gpt_oss", "qwen3_5", "qwen3_5_moe"})
"""Model types for which LLaMA-Factory refuses packing, or needs kernels of their own for it."""
PACKED_CUTOFFS = 8
"""Packed rows have a cutoff that is a multiple of this."""


def _no_gpu(machine: FastMachine, capability: float = 0.0) -> str | None:
    if not machine.gpus:
        return "there is no GPU"
    if machine.compute_capability is not None and machine.compute_capability < capability:
        return f"needs compute capability {capability}, the GPU has {machine.compute_capability}"
    return None


def _bf16(at: Weighing) -> Iterator[Switch]:
    key = "bf16"
    obstacle = _no_gpu(at.machine, 8.0)
    if obstacle is None and (at.arguments.get("fp16") or at.arguments.get("pure_bf16")):
        obstacle = "another precision is set"
    yield at.weigh(key, at.wanted[key], "the GPU's matrix units are made for it", obstacle)


def _flash(at: Weighing) -> Iterator[Switch]:
    key = "flash_attn"
    obstacle = _no_gpu(at.machine, 8.0)
    if obstacle is None and not at.machine.flash_attention:
        obstacle = "flash-attn is not installed, or does not load: PyTorch's own attention is used"
    if obstacle is None and not at.arguments.get("bf16") and not at.arguments.get("fp16"):
        obstacle = "it computes in 16 bits only"
    yield at.weigh(key, at.wanted[key], "no padding and no mask in attention", obstacle)


def _liger(at: Weighing) -> Iterator[Switch]:
    key = "enable_liger_kernel"
    machine = at.machine
    obstacle = _no_gpu(machine, 7.0)
    if obstacle is None and not machine.liger:
        obstacle = "liger-kernel is not installed, or does not load"
    if obstacle is None and machine.model_type is None:
        obstacle = "the model's type is not known here"
    if obstacle is None and machine.model_type not in machine.liger_models:
        obstacle = f"LLaMA-Factory has no Liger kernels for model type {machine.model_type}"
    yield at.weigh(key, at.wanted[key], f"fused kernels and loss for {machine.model_type}", obstacle)


def _packing(at: Weighing) -> Iterator[Switch]:
    key = "neat_packing"
    found = None
    obstacle = "you set it" if key in at.given else _packing_obstacle(at)
    cutoff = at.number("cutoff_len", 2048)
    if obstacle is None and at.lengths:
        found = choose_packing(at.lengths, at.per_step, _cutoffs(at, cutoff, LONGER_ROWS))
        if found and found.cutoff_len > cutoff + PACKED_CUTOFFS and not at.room(_as_packed(found), SAFELY)[0]:
            found = choose_packing(at.lengths, at.per_step, _cutoffs(at, cutoff, 1))
        obstacle = _misfit(at, found, cutoff)
    if found is None or obstacle is not None:
        yield at.weigh(key, at.wanted[key], "", obstacle or "conversations cannot be packed")
        return
    per_step = at.per_step
    yield at.weigh(
        key,
        at.wanted[key],
        f"{found.per_row:.1f} conversations a row, {found.filled:.0%} of it filled, none sees another",
        None,
    )
    if found.cutoff_len != cutoff:
        reason = f"a row for packing; the longest conversation has {max(at.lengths or [0])} tokens"
        yield at.weigh("cutoff_len", found.cutoff_len, reason, None)
    if at.number("per_device_train_batch_size", 8) != 1:
        yield at.weigh("per_device_train_batch_size", 1, "packed rows go one at a time", None)
    if at.evaluates and at.number("per_device_eval_batch_size", 8) != 1:
        yield at.weigh("per_device_eval_batch_size", 1, "packed rows go one at a time", None)
    if at.number("gradient_accumulation_steps", 1) != found.accumulation:
        reason = f"{found.per_step:.1f} conversations per step as before ({per_step})"
        yield at.weigh("gradient_accumulation_steps", found.accumulation, reason, None)


def _packing_obstacle(at: Weighing) -> str | None:
    arguments = at.arguments
    if at.arguments.get("flash_attn") != "fa2":
        return "without flash-attn it needs a mask of length x length"
    if arguments.get("stage", "sft") != "sft" or "packing" in at.given:
        return "packing is set otherwise"
    if at.machine.model_type in NEVER_PACKED:
        return f"LLaMA-Factory does not pack for model type {at.machine.model_type}"
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size"):
        if name in at.given and at.number(name, 8) != 1:
            return f"needs {name} 1, you set it to {arguments[name]}"
    if at.lengths is None:
        return "the conversations' lengths are not known"
    return None


def _cutoffs(at: Weighing, cutoff: int, longer: int) -> list[int]:
    """Return the cutoffs to choose among: multiples of 8 that lose no token of any conversation, and add none.

    Rows may be longer than the cutoff, up to `longer` times, where no conversation was cut by it.
    """
    if "cutoff_len" in at.given:
        return [cutoff] if cutoff % PACKED_CUTOFFS == 0 else []
    uncut = max(at.lengths or [0]) < cutoff
    # Where some were, a row a little longer than the cutoff makes up for the token that packing takes off.
    highest = (cutoff * (longer if uncut else 1) + PACKED_CUTOFFS) // PACKED_CUTOFFS * PACKED_CUTOFFS
    return list(range(PACKED_CUTOFFS, highest + 1, PACKED_CUTOFFS))


def _as_packed(found: Packing) -> dict[str, Any]:
    return {"neat_packing": True, "cutoff_len": found.cutoff_len, "per_device_train_batch_size": 1}


def _misfit(at: Weighing, found: Packing | None, cutoff: int) -> str | None:
    longest = max(at.lengths or [0])
    if found is None:
        return (
            f"needs --cutoff-len a multiple of {PACKED_CUTOFFS} above the longest conversation ({longest} tokens),"
            f" you set it to {cutoff}"
        )
    if found.per_row < FULL_ROW:
        return f"hardly two conversations fit into {cutoff} tokens"
    if abs(found.per_step / at.per_step - 1) > SAME_STEP:
        return f"it would train {found.per_step:.1f} conversations per step instead of {at.per_step}"
    if "gradient_accumulation_steps" in at.given and found.accumulation != at.number("gradient_accumulation_steps", 1):
        return f"needs gradient_accumulation_steps {found.accumulation} for the same conversations per step"
    return None


def _checkpointing(at: Weighing) -> Iterator[Switch]:
    key = "disable_gradient_checkpointing"
    obstacle = _no_gpu(at.machine)
    figures = ""
    if obstacle is None and {"gradient_checkpointing", "use_unsloth_gc"} & at.given:
        obstacle = "you set gradient checkpointing"
    if obstacle is None:
        fits, figures = at.room({key: True}, CLEARLY)
        obstacle = None if fits else f"{figures}: activations are computed a second time instead"
    yield at.weigh(key, at.wanted[key], f"activations are kept: {figures}", obstacle)


def _batch(at: Weighing) -> Iterator[Switch]:
    """Weigh a larger batch with less accumulation, for conversations that are not packed, and group by length."""
    batch_key, accumulation_key = "per_device_train_batch_size", "gradient_accumulation_steps"
    batch, per_step = at.number(batch_key, 8), at.per_step
    if not at.packed and batch < per_step and at.machine.gpus and not {batch_key, accumulation_key} & at.given:
        chosen, reason = _larger_batch(at, batch, per_step)
        if chosen > batch:
            yield at.weigh(batch_key, chosen, reason, None)
            yield at.weigh(accumulation_key, per_step // chosen, f"{per_step} conversations per step as before", None)
        else:
            yield at.weigh(batch_key, per_step, "", reason)
    key = "train_sampling_strategy"
    obstacle = None
    if at.packed:
        obstacle = "packed rows are equally long"
    elif at.number(batch_key, 8) == 1:
        obstacle = "one conversation at a time is not padded"
    yield at.weigh(key, at.wanted[key], "conversations of a batch are about equally long: little padding", obstacle)


def _larger_batch(at: Weighing, batch: int, per_step: int) -> tuple[int, str]:
    """Return the largest batch that divides the step, helps and fits, and why it is that one."""
    if at.lengths is None:
        return batch, "the conversations' lengths are not known"
    typical = sorted(at.lengths)[len(at.lengths) // 2]
    reason = f"a conversation of {typical} tokens keeps the GPU busy alone"
    for larger in sorted((size for size in range(batch + 1, per_step + 1) if per_step % size == 0), reverse=True):
        if larger * typical > TOKENS_AT_ONCE:
            continue
        fits, figures = at.room({"per_device_train_batch_size": larger}, SAFELY)
        if fits:
            return larger, f"conversations of {typical} tokens leave the GPU idle; {figures}"
        reason = f"{figures} with {larger}"
    return batch, reason


def _preprocessing(at: Weighing) -> Iterator[Switch]:
    key = "preprocessing_num_workers"
    rows = len(at.lengths or ())
    workers = min(int(at.wanted[key]), at.machine.cpus, rows // WORKER_ROWS)
    obstacle = f"one process is enough for {rows} conversations" if rows else "the conversations are not counted"
    useful = workers > 1
    value = workers if useful else at.wanted[key]
    yield at.weigh(key, value, f"processes that tokenise {rows} conversations", None if useful else obstacle)


def _loading(at: Weighing) -> Iterator[Switch]:
    key = "dataloader_num_workers"
    workers = min(int(at.wanted[key]), at.machine.cpus // max(1, at.machine.gpus) - 1)
    obstacle = _no_gpu(at.machine)
    if obstacle is None and workers < 1:
        obstacle = "no processors to spare"
    yield at.weigh(key, max(workers, 1), "batches are made while the GPU works", obstacle)


RULES: dict[str, Callable[[Weighing], Iterator[Switch]]] = {
    # In the order in which one decision is the ground of the next.
    "bf16": _bf16,
    "flash_attn": _flash,
    "enable_liger_kernel": _liger,
    "neat_packing": _packing,
    "disable_gradient_checkpointing": _checkpointing,
    "train_sampling_strategy": _batch,
    "preprocessing_num_workers": _preprocessing,
    "dataloader_num_workers": _loading,
}
