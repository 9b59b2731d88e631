"""How much memory and disk a training needs, estimated before it starts.

Model states follow DeepSpeed's own estimators (`estimate_zero2_model_states_mem_needs`,
`estimate_zero3_model_states_mem_needs`) and, without DeepSpeed, what LLaMA-Factory does: it holds trainable
weights in float32 unless `pure_bf16` is on. Activations follow Korthikanti et al., "Reducing Activation
Recomputation in Large Transformer Models" (2022), with the gated feed-forward and grouped-query attention of
today's models put in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from agent_sft.engines.llamafactory.shape import ModelShape

GIB = 1 << 30
RUNTIME_BYTES = GIB
"""What the CUDA context, the libraries' workspaces and NCCL's buffers take on each GPU, about."""
HOST_FACTOR = 1.5
"""DeepSpeed's allowance for its buffers in the host's memory (`additional_buffer_factor`)."""

_PLAIN_ADAM = ("adamw_torch", "adamw_torch_fused", "adamw_apex_fused")
_UNDESCRIBED = ("fsdp", "fsdp_config", "use_apollo", "use_badam", "use_galore", "use_kt", "use_mca", "use_unsloth")
"""Settings that change what lies in memory in ways of their own."""


@dataclass(frozen=True)
class Sharding:
    """How the model is spread: DeepSpeed's ZeRO stage and offloading, over so many GPUs."""

    stage: int | None = None
    """ZeRO stage; None without DeepSpeed."""
    offload_optimizer: bool = False
    offload_parameters: bool = False
    processes: int = 1
    """GPUs on each machine."""
    nodes: int = 1
    """Machines."""

    @property
    def gpus(self) -> int:
        """GPUs in all."""
        return self.processes * self.nodes


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on each GPU at the longest example the settings allow, and in each machine's own memory."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    host: int

    @property
    def states(self) -> int:
        """What the model itself takes, whatever the examples' length."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        """Everything on one GPU."""
        return self.states + self.activations + self.logits + RUNTIME_BYTES


def estimate_memory(shape: ModelShape, arguments: dict[str, Any], sharding: Sharding) -> MemoryEstimate | None:
    """Estimate the memory that a training needs; None for methods and optimizers that this does not describe.

    Args:
        shape: the model.
        arguments: LLaMA-Factory's settings.
        sharding: how it is spread.
    """
    method = arguments.get("finetuning_type", "lora")
    if (
        any(arguments.get(name) for name in _UNDESCRIBED)
        or str(arguments.get("optim", "adamw_torch")) not in _PLAIN_ADAM
    ):
        return None
    half = any(arguments.get(name) for name in ("bf16", "fp16", "pure_bf16"))
    if method == "full":
        states = _trained_states(shape.parameters, shape.largest_layer, arguments, sharding, half)
    elif method == "lora":
        adapter = shape.lora_parameters(int(arguments.get("lora_rank", 8)))
        frozen, frozen_host = _frozen_states(shape, arguments, sharding, half)
        weights, gradients, optimizer, host = _trained_states(adapter, 0, arguments, sharding, half)
        states = (frozen + weights, gradients, optimizer, frozen_host + host)
    else:
        return None
    weights, gradients, optimizer, host = (round(value) for value in states)
    tokens = int(arguments.get("per_device_train_batch_size", 8)) * int(arguments.get("cutoff_len", 2048))
    # With float32 weights, autocast leaves the stream between the layers in float32.
    stream = 4 if not half or (method == "full" and sharding.stage is None and not arguments.get("pure_bf16")) else 2
    return MemoryEstimate(
        weights,
        gradients,
        optimizer,
        activations=_activations(shape, arguments, tokens, stream),
        logits=0 if arguments.get("enable_liger_kernel") else 12 * tokens * shape.vocabulary,
        host=host,
    )


def checkpoint_bytes(shape: ModelShape, arguments: dict[str, Any], stage: int | None) -> tuple[int, int]:
    """Return the bytes of one checkpoint, and of the final model.

    Without DeepSpeed weights are saved in float32 beside two float32 moments of Adam. DeepSpeed saves the
    weights as trained, the float32 copy with the moments, and below stage 3 the weights once more.

    Args:
        shape: the model.
        arguments: LLaMA-Factory's settings.
        stage: ZeRO stage; None without DeepSpeed.
    """
    trained = shape.parameters
    if arguments.get("finetuning_type", "lora") == "lora":
        trained = shape.lora_parameters(int(arguments.get("lora_rank", 8)))
    half = bool(arguments.get("bf16") or arguments.get("fp16"))
    if arguments.get("pure_bf16"):
        model, optimizer = 2, 4
    elif stage is None:
        model, optimizer = 4, 8
    else:
        model = 2 if half else 4
        optimizer = 12 + (model if stage < 3 else 0)
    if arguments.get("save_only_model"):
        optimizer = 0
    return trained * (model + optimizer), trained * model


def checkpoints_at_once(arguments: dict[str, Any]) -> int | None:
    """Return how many checkpoints lie on the disk at the worst moment; None where the settings do not tell.

    The oldest one is deleted after the next is written, so there is one more than `save_total_limit`.
    """
    strategy = str(arguments.get("save_strategy", "steps"))
    if strategy in ("no", "False"):
        return 0
    made: int | None = None
    steps, interval = arguments.get("max_steps", -1), arguments.get("save_steps", 500)
    if strategy == "steps" and isinstance(steps, int) and steps > 0 and interval > 0:
        made = steps // interval if interval >= 1 else math.ceil(1 / interval)
    elif strategy == "epoch" and not (isinstance(steps, int) and steps > 0):
        made = math.ceil(float(arguments.get("num_train_epochs", 3)))
    limit = arguments.get("save_total_limit")
    if limit is None:
        return made
    return int(limit) + 1 if made is None else min(made, int(limit) + 1)


def _trained_states(
    parameters: int, largest: int, arguments: dict[str, Any], sharding: Sharding, half: bool
) -> tuple[float, float, float, float]:
    """Return weights, gradients and optimizer on a GPU, and the host's share, in bytes, of trained parameters.

    DeepSpeed in half precision holds, for each parameter, 2 bytes of weight, 2 + 4 of gradient, and 12 of
    optimizer (float32 weight and Adam's two moments); the stage says which of them are split over the GPUs.
    """
    stage, gpus = sharding.stage, sharding.gpus
    if stage is None:
        weight, moments = (2, 4) if arguments.get("pure_bf16") else (4, 8)
        # Several processes: PyTorch's DDP sends gradients from buckets that are a second copy of them.
        return parameters * weight, parameters * weight * (1 if gpus == 1 else 2), parameters * moments, 0
    weight, gradient, optimizer = (2, 6, 12) if half else (4, 4, 8)
    if stage >= 3:
        weight, gradient = (2, 4) if half else (4, 4)
        return _stage_three(parameters, largest, sharding, (weight, gradient, optimizer))
    if sharding.offload_optimizer and stage > 0:
        host = parameters * max(4 * gpus, 16) * HOST_FACTOR
        return parameters * weight, 0, 0, host
    # Stage 1 splits of the gradients only the float32 copy that the optimizer steps by.
    gradient_share = {0: gradient, 1: 2 + (gradient - 2) / gpus, 2: gradient / gpus}[stage]
    return parameters * weight, parameters * gradient_share, parameters * optimizer / (gpus if stage else 1), 0


def _stage_three(
    parameters: int, largest: int, sharding: Sharding, sizes: tuple[int, int, int]
) -> tuple[float, float, float, float]:
    weight, gradient, optimizer = sizes
    gathered = 4 * largest
    if not sharding.offload_optimizer:
        split = parameters / sharding.gpus
        return gathered + weight * split, gradient * split, optimizer * split, 0
    on_host = 18 if sharding.offload_parameters else 16
    host = parameters * on_host * HOST_FACTOR / sharding.nodes
    return gathered + (0 if sharding.offload_parameters else weight * parameters / sharding.gpus), 0, 0, host


def _frozen_states(shape: ModelShape, arguments: dict[str, Any], sharding: Sharding, half: bool) -> tuple[float, float]:
    """Return the frozen weights under an adapter on a GPU, and the host's share, in bytes."""
    bits = arguments.get("quantization_bit")
    # Quantised weights carry their scales, and the embeddings stay as they are: about a tenth more.
    size = int(bits) / 8 * 1.1 if bits else (2 if half else 4)
    if sharding.stage != 3:
        return shape.parameters * size, 0
    if sharding.offload_parameters:
        return 4 * shape.largest_layer, shape.parameters * size / sharding.nodes
    return 4 * shape.largest_layer + shape.parameters * size / sharding.gpus, 0


def _activations(shape: ModelShape, arguments: dict[str, Any], tokens: int, stream: int) -> int:
    """Return the bytes of what the forward pass keeps for the backward pass.

    With gradient checkpointing (LLaMA-Factory's default): every layer's input, and the inside of one layer.
    The inside of a layer for one token: queries, keys and values before and after rotation, the attention's
    output, four tensors of the feed-forward part, in 2 bytes each, and the two norms with their float32 copies.
    """
    attention = 2 * (3 * shape.attention_width + 3 * shape.key_value_width)
    inside = attention + 8 * shape.intermediate + 2 * (4 + 2 + stream) * shape.hidden
    inside *= tokens
    if arguments.get("flash_attn") == "disabled":
        inside += 5 * shape.heads * tokens * int(arguments.get("cutoff_len", 2048))
    boundary = tokens * shape.hidden * stream
    if arguments.get("disable_gradient_checkpointing"):
        return shape.layers * (inside + boundary)
    return shape.layers * boundary + inside
