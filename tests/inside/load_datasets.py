"""Tells what a training would get from datasets. Runs inside the train environment.

Reads a list of LLaMA-Factory settings as JSON from standard input; writes, for each, {"examples": number, "tokens":
number, "loss_tokens": number} as JSON, from LLaMA-Factory's own `get_dataset`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any


def load(settings: dict[str, Any]) -> dict[str, int]:
    """Load one dataset as a training does."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    with tempfile.TemporaryDirectory() as scratch:
        fixed = {"stage": "sft", "do_train": True, "bf16": False, "report_to": "none", "output_dir": scratch}
        model_args, data_args, training_args, *_ = get_train_args({**settings, **fixed})
        module = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
        rows = get_dataset(template, model_args, data_args, training_args, stage="sft", **module)["train_dataset"]
    return {
        "examples": len(rows),
        "tokens": sum(map(len, rows["input_ids"])),
        "loss_tokens": sum(label >= 0 for labels in rows["labels"] for label in labels),
    }


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    answers, sys.stdout = sys.stdout, sys.stderr
    json.dump([load(settings) for settings in asked], answers)
