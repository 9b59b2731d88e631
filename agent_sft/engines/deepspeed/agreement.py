"""Does a DeepSpeed configuration agree with the settings of the trainer that uses it?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_sft.engines.deepspeed.config import DeepSpeedConfig

_MATCHED: tuple[tuple[str, str, Any], ...] = (
    ("train_micro_batch_size_per_gpu", "per_device_train_batch_size", 8),
    ("gradient_accumulation_steps", "gradient_accumulation_steps", 1),
    ("gradient_clipping", "max_grad_norm", 1.0),
    ("optimizer.params.lr", "learning_rate", 5e-5),
    ("optimizer.params.eps", "adam_epsilon", 1e-8),
    ("optimizer.params.weight_decay", "weight_decay", 0.0),
    ("scheduler.params.warmup_max_lr", "learning_rate", 5e-5),
    ("fp16.enabled", "fp16", False),
    ("bf16.enabled", "bf16", False),
)
"""DeepSpeed's key, the trainer's key that it must equal unless it says "auto", and the trainer's default.

The pairs are those that transformers compares (`HfTrainerDeepSpeedConfig.trainer_config_process`), after it
has loaded the model.
"""


def disagreements(config: DeepSpeedConfig, arguments: dict[str, Any], *, world_size: int | None) -> list[str]:
    """Return what would make the trainer stop, or save a model without weights, one sentence each.

    Args:
        config: the DeepSpeed configuration.
        arguments: LLaMA-Factory's settings.
        world_size: processes in all; None leaves the total batch size unchecked.
    """
    found = [
        f'{key} is {_at(config.raw, key)!r}, but {name} is {arguments.get(name, default)!r}: write "auto"'
        for key, name, default in _MATCHED
        if _differs(_at(config.raw, key), arguments.get(name, default))
    ]
    if world_size is not None:
        found += _total_batch(config, arguments, world_size)
    return found + _impossible(config, arguments)


def _total_batch(config: DeepSpeedConfig, arguments: dict[str, Any], world_size: int) -> list[str]:
    sizes = [arguments.get("per_device_train_batch_size", 8), arguments.get("gradient_accumulation_steps", 1)]
    if not all(isinstance(size, int) for size in sizes):
        return []
    total = world_size * math.prod(sizes)
    if not _differs(config.raw.get("train_batch_size"), total):
        return []
    return [
        f"train_batch_size is {config.raw['train_batch_size']!r}, but {world_size} processes with these "
        f'settings make it {total}: write "auto"'
    ]


def _impossible(config: DeepSpeedConfig, arguments: dict[str, Any]) -> list[str]:
    found = []
    if _at(config.raw, "bf16.enabled") is True and _at(config.raw, "fp16.enabled") is True:
        found.append('bf16 and fp16 cannot both be enabled: write "auto" for both')
    if config.offload_param is not None and config.stage < 3:
        found.append(f"offload_param works with ZeRO stage 3 only, not stage {config.stage}")
    if config.stage == 3:
        if not config.gathers_weights_on_save:
            found.append(
                'without "stage3_gather_16bit_weights_on_model_save": true the saved model has no weights file'
            )
        refused = {
            "pure_bf16": "LLaMA-Factory refuses it with ZeRO stage 3",
            "use_cpu": "with it every process takes itself for the only one under ZeRO stage 3",
            "predict_with_generate": "LLaMA-Factory refuses it with ZeRO stage 3",
            "use_unsloth": "LLaMA-Factory refuses it with ZeRO stage 3",
            "pissa_init": "LLaMA-Factory refuses it with ZeRO stage 3",
        }
        found += [f"{name} is on: {why}" for name, why in refused.items() if arguments.get(name)]
    if "optimizer" not in config.raw and "scheduler" in config.raw:
        found.append("a scheduler without an optimizer section: give both, or leave both to the trainer")
    if arguments.get("use_galore") or arguments.get("use_apollo"):
        found.append("GaLore and APOLLO do not work with DeepSpeed")
    return found


def _at(raw: dict[str, Any], path: str) -> Any:
    value: Any = raw
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _differs(theirs: Any, ours: Any) -> bool:
    if theirs is None or theirs == "auto":
        return False
    try:
        return float(theirs) != float(ours)
    except (TypeError, ValueError):
        return bool(theirs != ours)
