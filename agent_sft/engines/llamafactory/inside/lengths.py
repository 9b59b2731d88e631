"""Prints the number of tokens of every conversation that a training would train on, after truncation.

Standard input: LLaMA-Factory's settings. LLaMA-Factory's own tokenizer, template and processor count, so the
figures are those of the training, conversation for conversation.
"""

import json
import sys
import tempfile

from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer

# What the tokens do not depend on, and what could keep the arguments from being read here.
LEFT_OUT = ("deepspeed", "fp16", "resume_from_checkpoint", "tokenized_path", "eval_dataset", "val_size")
LEFT_OUT_PREFIXES = ("eval_", "save_", "load_best_", "dataloader_", "report_to")


def main() -> None:
    """Print a list of numbers."""
    settings = {
        key: value
        for key, value in json.load(sys.stdin).items()
        if key not in LEFT_OUT and not key.startswith(LEFT_OUT_PREFIXES)
    }
    settings |= {"bf16": False, "packing": False, "neat_packing": False, "do_train": True, "report_to": "none"}
    with tempfile.TemporaryDirectory() as scratch:
        model_args, data_args, training_args, *_ = get_train_args({**settings, "output_dir": scratch})
        tokenizer_module = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(tokenizer_module["tokenizer"], data_args)
        data = get_dataset(template, model_args, data_args, training_args, stage="sft", **tokenizer_module)
        lengths = [len(ids) for ids in data["train_dataset"]["input_ids"]]
    print(json.dumps(lengths), file=sys.__stdout__)


if __name__ == "__main__":
    main()
