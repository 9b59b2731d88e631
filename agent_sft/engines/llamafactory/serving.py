"""What to do with a trained model: compute its loss on a dataset."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def evaluation_command(
    python: Path | None, trained: Path, arguments: Mapping[str, Any], base: Path | None, data_dir: Path, dataset: str
) -> str:
    """Return the shell command that computes a trained model's loss on a dataset, once more or another one.

    Args:
        python: the train environment's.
        trained: folder of the trained model, or of the adapter.
        arguments: the settings it was trained with.
        base: folder of the base model when it was made on the spot.
        data_dir: folder with the `dataset_info.json`.
        dataset: name of the dataset.
    """
    options = {
        "stage": "sft",
        "do_eval": "true",
        **_model_options(trained, arguments, base),
        "cutoff_len": str(arguments["cutoff_len"]),
        "dataset_dir": str(data_dir),
        "eval_dataset": dataset,
        "per_device_eval_batch_size": "1",
        "output_dir": str(trained / "evaluation"),
        "report_to": "none",
    }
    return _command(python, options)


def _model_options(trained: Path, arguments: Mapping[str, Any], base: Path | None) -> dict[str, str]:
    if arguments.get("finetuning_type") != "lora":
        return {"model_name_or_path": str(trained), "template": str(arguments["template"])}
    return {
        "model_name_or_path": str(base or arguments["model_name_or_path"]),
        "adapter_name_or_path": str(trained),
        "finetuning_type": "lora",
        "template": str(arguments["template"]),
    }


def _command(python: Path | None, options: Mapping[str, str]) -> str:
    program = str(python.parent / "llamafactory-cli") if python else "llamafactory-cli"
    words = [f"--{key} {shlex.quote(value)}" for key, value in options.items()]
    return " ".join([shlex.quote(program), "train", *words])
