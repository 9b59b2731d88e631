"""Does many things with LLaMA-Factory in one process, for starting it takes longest. Runs in the train environment.

Reads a list of jobs as JSON from standard input, and writes the list of their results:

    {"program": path, "order": value}   runs a program of `engines/llamafactory/inside/` with this standard input
    {"load": settings}                  {"ids": [...], "labels": [...]} of every example, from `get_dataset`
    {"train": settings}                 {"logged": number of examples in the trainer's log, "examples", "tokens",
                                        "loss_tokens": what is in the batches of a pass over the data}; the training
                                        ends before its first step
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import os
import re
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

FIXED = {"stage": "sft", "do_train": True, "bf16": False, "report_to": "none"}


def ran(program: Path, order: Any) -> Any:
    """Return the result of a program."""
    kept = sys.stdin, sys.__stdout__
    sys.path.insert(0, str(program.parent))
    sys.stdin, result = io.StringIO(json.dumps(order)), io.StringIO()
    sys.__stdout__ = result  # type: ignore[misc, assignment]
    try:
        runpy.run_path(str(program), run_name="__main__")
    finally:
        sys.stdin, sys.__stdout__ = kept  # type: ignore[misc]
        del sys.path[0]
    return json.loads(result.getvalue())


def loaded(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the examples of a dataset as a training loads them."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    with tempfile.TemporaryDirectory() as scratch:
        model_args, data_args, training_args, *_ = get_train_args({**settings, **FIXED, "output_dir": scratch})
        module = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
        found = get_dataset(template, model_args, data_args, training_args, stage="sft", **module)["train_dataset"]
    return {"ids": found["input_ids"], "labels": found["labels"]}


class Examples(logging.Handler):
    """Reads the number of examples in the trainer's log."""

    found: list[int]

    def emit(self, record: logging.LogRecord) -> None:
        """Look at a line."""
        if match := re.search(r"Num examples = ([\d,]+)", record.getMessage()):
            self.found.append(int(match[1].replace(",", "")))


def trained(settings: dict[str, Any]) -> dict[str, int]:
    """Return what a training reads in a pass."""
    from llamafactory.train.tuner import run_exp
    from transformers import TrainerCallback

    counted = dict.fromkeys(("examples", "tokens", "loss_tokens"), 0)

    class Read(Exception):
        pass

    class Reader(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, train_dataloader: Any, **__: Any) -> None:
            for batch in train_dataloader:
                counted["examples"] += len(batch["input_ids"])
                counted["tokens"] += int(batch["attention_mask"].sum())
                counted["loss_tokens"] += int((batch["labels"] >= 0).sum())
            raise Read

    log = Examples()
    log.found = []
    logging.getLogger("transformers").addHandler(log)
    with tempfile.TemporaryDirectory() as scratch, contextlib.suppress(Read):
        run_exp({**settings, **FIXED, "output_dir": scratch, "use_cpu": True}, callbacks=[Reader()])
    logging.getLogger("transformers").removeHandler(log)
    [logged] = log.found
    return {"logged": logged, **counted}


def main() -> None:
    """Do all jobs."""
    jobs = json.load(sys.stdin)
    from datasets import config
    from llamafactory.data.template import TEMPLATES

    config.HF_DATASETS_CACHE = Path(os.environ["AGENT_SFT_SCRATCH"])

    results: list[Any] = []
    for job in jobs:
        before = copy.deepcopy(TEMPLATES)  # settings change them in their place
        if "load" in job:
            results.append(loaded(job["load"]))
        elif "train" in job:
            results.append(trained(job["train"]))
        else:
            results.append(ran(Path(job["program"]), job["order"]))
        TEMPLATES.update(before)
    print(json.dumps(results, default=list), file=sys.__stdout__)


if __name__ == "__main__":
    main()
