"""Hold a DeepSpeed configuration against DeepSpeed's own schema. Runs inside the train environment.

Usage: python validate.py FILE
Prints {"problems": [{"path": [...], "message": "...", "known": [...]}]}: `path` leads to the key, `known` are
the names allowed in its place where the key itself is unknown. No problems: the schema accepts the file.
"""

from __future__ import annotations

import json
import sys
import typing
from pathlib import Path
from typing import Any

SECTIONS = {
    "DeepSpeedZeroConfig": ["zero_optimization"],
    "DeepSpeedZeroOffloadOptimizerConfig": ["zero_optimization", "offload_optimizer"],
    "DeepSpeedZeroOffloadParamConfig": ["zero_optimization", "offload_param"],
    "DeepSpeedFP16Config": ["fp16"],
    "DeepSpeedBF16Config": ["bf16"],
    "CommsLoggerConfig": ["comms_logger"],
    "CompileConfig": ["compile"],
    "HybridEngineConfig": ["hybrid_engine"],
    "TensorBoardConfig": ["tensorboard"],
    "WandbConfig": ["wandb"],
    "CSVConfig": ["csv_monitor"],
    "CometConfig": ["comet"],
    "DeepSpeedThroughputTimerConfig": ["timers", "throughput"],
}
BATCH_KEYS = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")


def main() -> None:
    """Print the problems of the file named on the command line."""
    raw = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps({"problems": problems(raw)}), file=sys.__stdout__)


def problems(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what DeepSpeed finds wrong with a configuration."""
    from deepspeed.runtime.config import DeepSpeedConfig
    from pydantic import ValidationError

    # The batch sizes are the trainer's business: "auto" there, and tied to the number of processes.
    settings = {key: value for key, value in raw.items() if key not in BATCH_KEYS}
    settings["train_micro_batch_size_per_gpu"] = 1
    try:
        DeepSpeedConfig(settings)
    except ValidationError as error:
        section = SECTIONS.get(error.title, [])
        return [described(section, one) for one in error.errors()]
    except Exception as error:
        return [{"path": [], "message": str(error) or type(error).__name__, "known": []}]
    return []


def described(section: list[str], error: Any) -> dict[str, Any]:
    """Put pydantic's description of one error into words that name the key in the file."""
    path = [*section, *(str(part) for part in error["loc"])]
    if error["type"] == "extra_forbidden":
        return {"path": path, "message": "unknown key", "known": known_names(path[:-1])}
    message = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    given = "" if isinstance(error["input"], dict) else f" (given: {json.dumps(error['input'], default=str)})"
    return {"path": path, "message": message[:1].lower() + message[1:] + given, "known": []}


def known_names(path: list[str]) -> list[str]:
    """Return the names that the section at this path allows."""
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    roots = {"zero_optimization": DeepSpeedZeroConfig, "fp16": DeepSpeedFP16Config, "bf16": DeepSpeedBF16Config}
    model: Any = roots.get(path[0]) if path else None
    for name in path[1:]:
        model = subsection(model, name)
    return sorted(field.alias or name for name, field in model.model_fields.items()) if model else []


def subsection(model: Any, name: str) -> Any:
    """Return the schema of a section within a section, None where there is none."""
    for known, field in model.model_fields.items() if model else ():
        if name in (known, field.alias):
            kinds = [field.annotation, *typing.get_args(field.annotation)]
            return next((kind for kind in kinds if hasattr(kind, "model_fields")), None)
    return None


if __name__ == "__main__":
    main()
