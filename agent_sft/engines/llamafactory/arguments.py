"""From the options of a run to the YAML that LLaMA-Factory trains by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from agent_sft.config.sft import SFTConfig
from agent_sft.config.tiny import TINY, is_made_here
from agent_sft.errors import UserError
from agent_sft.files import parse_yaml

OPTION_KEYS: dict[str, tuple[str, ...]] = {
    "model": ("model_name_or_path",),
    "template": ("template",),
    "output_dir": ("output_dir",),
    "dataset_name": ("dataset",),
    "epochs": ("num_train_epochs",),
    "steps": ("max_steps",),
    "lr": ("learning_rate",),
    "batch_size": ("per_device_train_batch_size",),
    "grad_accum": ("gradient_accumulation_steps",),
    "cutoff_len": ("cutoff_len",),
    "finetuning_type": ("finetuning_type",),
    "lora_rank": ("lora_rank",),
    "lora_alpha": ("lora_alpha",),
    "lora_target": ("lora_target",),
    "deepspeed": ("deepspeed",),
    "eval_dataset": ("eval_dataset", "eval_strategy"),
    "val_size": ("val_size", "eval_strategy"),
    "checkpoint_interval": ("save_strategy", "save_steps", "save_total_limit"),
    "report_to": ("report_to",),
    "seed": ("seed",),
}
"""The LLaMA-Factory keys that an option stands for."""

EVAL_LOSS = "eval_loss"
"""The trainer's own metric, beside those of benchmarks."""

ALWAYS_WIN = ("eval_dataset", "val_size", "checkpoint_interval", "report_to", "seed")
"""Options that a user's YAML never overrides: they ask for something on top of it."""

NOT_FINGERPRINTED = frozenset(
    {
        "dataset_dir",
        "ddp_timeout",
        "dataloader_num_workers",
        "logging_steps",
        "model_name_or_path",
        "output_dir",
        "overwrite_output_dir",
        "plot_loss",
        "preprocessing_num_workers",
        "project",
        "report_to",
        "resume_from_checkpoint",
        "run_name",
        "save_total_limit",
    }
)
"""Keys that do not change what is trained; the model and the data count by their content instead."""


@dataclass(frozen=True)
class Override:
    """A setting of ours that the user's YAML replaced."""

    key: str
    ours: Any
    theirs: Any


def option_arguments(config: SFTConfig, *, precision: Literal["bf16", "fp16"] | None) -> dict[str, Any]:
    """Return the LLaMA-Factory settings that the options alone ask for.

    Args:
        config: the options.
        precision: what the devices here train in; None for float32.
    """
    arguments: dict[str, Any] = {
        "model_name_or_path": config.model,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": config.finetuning_type,
        "dataset": config.dataset_name,
        "template": config.template,
        "cutoff_len": config.cutoff_len,
        "output_dir": str(config.output_dir or default_output_dir(config)),
        "run_name": config.dataset_name,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "plot_loss": True,
        "overwrite_output_dir": False,
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "per_device_train_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.grad_accum,
        "learning_rate": config.lr,
        "num_train_epochs": config.epochs,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "bf16": precision == "bf16",
        "ddp_timeout": 180000000,
        "include_num_input_tokens_seen": "all",
        "report_to": list(config.report_to) or "none",
        "seed": config.seed,
    }
    if precision == "fp16":
        arguments["fp16"] = True
    if config.model == TINY:
        # Its activations are small: computing them a second time takes nearly half of a training without a GPU.
        arguments["disable_gradient_checkpointing"] = True
    if config.steps is not None:
        arguments["max_steps"] = config.steps
    if config.finetuning_type == "lora":
        arguments["lora_rank"] = config.lora_rank
        arguments["lora_alpha"] = config.lora_alpha or 2 * config.lora_rank
        arguments["lora_target"] = config.lora_target
    if config.deepspeed is not None:
        arguments["deepspeed"] = str(config.deepspeed)
    if config.checkpoint_interval is not None:
        arguments |= {"save_strategy": "steps", "save_steps": config.checkpoint_interval}
        del arguments["save_total_limit"]
    if config.save_at:
        # The trainer is told by a callback when to save: it knows how many steps there are.
        arguments["save_strategy"] = "no"
        del arguments["save_total_limit"]
    if config.best_by == EVAL_LOSS:
        arguments |= {"load_best_model_at_end": True, "metric_for_best_model": EVAL_LOSS, "greater_is_better": False}
    if config.eval_dataset is not None or config.val_size is not None:
        arguments |= evaluation_arguments(config)
    if "trackio" in config.report_to:
        arguments["project"] = "agent-sft"
    return arguments


def evaluation_arguments(config: SFTConfig) -> dict[str, Any]:
    """Return the settings that make the evaluation loss come with every checkpoint."""
    arguments: dict[str, Any] = {"per_device_eval_batch_size": 1, "eval_strategy": "epoch"}
    if config.checkpoint_interval is not None:
        arguments |= {"eval_strategy": "steps", "eval_steps": config.checkpoint_interval}
    if config.eval_dataset is not None:
        arguments["eval_dataset"] = f"{config.dataset_name}_eval"
    elif config.val_size is not None:
        arguments["val_size"] = config.val_size
    return arguments


def merge_user_yaml(
    config: SFTConfig, ours: dict[str, Any], theirs: dict[str, Any]
) -> tuple[dict[str, Any], tuple[Override, ...]]:
    """Lay the user's YAML over our settings, and `--set` and later flags over both.

    An option given after `--config` on the command line wins over the YAML; so do those that ask for
    something on top (`ALWAYS_WIN`).

    Returns:
        The settings, and which of ours the YAML replaced.
    """
    theirs, asked = _named_strategies(theirs), _named_strategies(config.set)
    names = list(config.given)
    after = names[names.index("config") + 1 :] if "config" in names else names
    winners = {*after, *(name for name in names if name in ALWAYS_WIN)}
    protected = {key for name in winners for key in OPTION_KEYS.get(name, ())}
    laid = {key: value for key, value in theirs.items() if key not in protected}
    if "max_steps" in laid and "num_train_epochs" in protected:
        laid.pop("max_steps")  # a later --epochs would otherwise be accepted and do nothing
    overrides = tuple(
        Override(key, ours[key], value) for key, value in laid.items() if key in ours and ours[key] != value
    )
    merged = {**ours, **laid, **asked}
    return merged, overrides


def _named_strategies(values: dict[str, Any]) -> dict[str, Any]:
    """Take `save_strategy: no`, which YAML reads as false, for the strategy of that name, as it is meant."""
    return {key: "no" if value is False and key.endswith("_strategy") else value for key, value in values.items()}


def read_user_yaml(path: Path) -> dict[str, Any]:
    """Read the user's LLaMA-Factory YAML.

    Raises:
        UserError: it is missing, no YAML (with line and column), or no mapping of settings.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(
            "LLaMA-Factory reads settings from .yaml files only", where=str(path), fix="rename or convert it"
        )
    try:
        value = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("no such file", where=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=str(path)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        raise UserError(f"not YAML: {getattr(error, 'problem', None) or error}", where=where) from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UserError("holds no settings: a mapping of LLaMA-Factory keys is wanted", where=str(path))
    return value


def default_output_dir(config: SFTConfig) -> Path:
    """Return `saves/<model>/<dataset>`, the model by the last part of its name or path, without a `.yaml`."""
    model = Path(config.model)
    return Path("saves") / ((model.stem if is_made_here(config.model) else model.name) or "model") / config.dataset_name


def fingerprinted(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that change what is trained."""
    return {key: value for key, value in sorted(arguments.items()) if key not in NOT_FINGERPRINTED}
