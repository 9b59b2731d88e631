"""LLaMA-Factory's own evaluation: the loss on held-out conversations, and how many of their tokens it foresees."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from agent_sft.engines.llamafactory.api_server import server_settings
from agent_sft.engines.llamafactory.facts import INSIDE
from agent_sft.engines.model_files import ModelFiles
from agent_sft.files import read_json


def evaluating_command(python: Path, yaml: Path, attempt: Path) -> list[str]:
    """Return the command that evaluates by `yaml`, in one process.

    Args:
        python: the train environment's.
        yaml: LLaMA-Factory's settings.
        attempt: folder that gets the loss of each example.
    """
    return [str(python), str(INSIDE / "evaluate.py"), str(yaml), str(attempt)]


def evaluation_settings(
    model: ModelFiles, *, template: str, cutoff_len: int, data: Path, dataset: str, output: Path
) -> dict[str, Any]:
    """Return LLaMA-Factory's settings that evaluate a model and train nothing.

    Args:
        model: a whole model or an adapter.
        template: LLaMA-Factory's chat template.
        cutoff_len: tokens of an example.
        data: folder with the `dataset_info.json`.
        dataset: the dataset's name in it.
        output: folder for the figures.
    """
    return server_settings(
        model,
        template,
        {
            "stage": "sft",
            "do_train": False,
            "do_eval": True,
            "dataset_dir": str(data),
            "eval_dataset": dataset,
            "cutoff_len": cutoff_len,
            "compute_accuracy": True,
            # One at a time: figures do not depend on which examples share a batch and its padding.
            "per_device_eval_batch_size": 1,
            "output_dir": str(output),
            "report_to": "none",
        },
    )


def read_figures(output: Path) -> tuple[float, float, int] | None:
    """Return the loss in nats per token, the share of tokens foreseen, and how many examples there were.

    The first two are means over examples, each weighing the same. None where the evaluation did not end. The loss is
    NaN where the model's numbers are.
    """
    found = None
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        # Python's own reader: the trainer writes NaN, which is no JSON.
        found = json.loads((output / "eval_results.json").read_bytes())
    if not isinstance(found, dict) or not {"eval_loss", "eval_accuracy", "eval_runtime"} <= found.keys():
        return None
    examples = round(float(found["eval_samples_per_second"]) * float(found["eval_runtime"]))
    return float(found["eval_loss"]), float(found["eval_accuracy"]), examples


def read_losses(attempt: Path, examples: int) -> tuple[list[float], list[int]] | None:
    """Return the loss of each example, in nats per token, and its tokens with loss; None where they are not known.

    Args:
        attempt: the folder of the evaluation.
        examples: how many there must be.
    """
    found = read_json(attempt / "losses.json")
    if not isinstance(found, dict) or len(found["losses"]) != examples:
        return None
    return found["losses"], found["tokens"]
