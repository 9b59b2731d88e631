"""Asks LLaMA-Factory itself what it makes of rows. Runs inside the train environment.

Reads {"batches": [[template, [row, ...]], ...]} as JSON from standard input. Writes, for each batch, a list with
one entry for each row: {"error": null or text, "text": what is tokenised, "trained": the part with loss}. An error
says where it happened: in the converter (`dropped` where the row is only left out) or when tokenising.

With {"registry": true} what each template can carry is written, by its name.

With {"folder": F, "name": N, "template": T} the dataset N that F declares is loaded as a training loads it, and
{"examples": number, "columns": {...}} is written.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_tokenizer() -> Any:
    """Return a tokenizer with a token for each byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL[1:],
        clean_up_tokenization_spaces=False,
    )


def judge_rows(rows: list[Any], template_name: str) -> list[dict[str, Any]]:
    """Return what becomes of each row alone."""
    from llamafactory.data.converter import SharegptDatasetConverter
    from llamafactory.data.parser import DatasetAttr
    from llamafactory.data.processor import SupervisedDatasetProcessor
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    data_args = DataArguments(template=template_name, cutoff_len=1_000_000)
    tokenizer = byte_tokenizer()
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    # A text-only processor: templates of models that see refuse to work without one.
    template.mm_plugin = SimpleNamespace(
        process_messages=lambda messages, *_: messages, process_token_ids=lambda ids, labels, *_: (ids, labels)
    )
    attr = DatasetAttr("file", "rows", formatting="sharegpt", system="system", tools="tools")
    converter = SharegptDatasetConverter(attr, data_args)
    processor = SupervisedDatasetProcessor(template, tokenizer, None, data_args)
    return [judge(converter, processor, tokenizer, row) for row in rows]


def judge(converter: Any, processor: Any, tokenizer: Any, row: Any) -> dict[str, Any]:
    """Return what becomes of one row."""
    try:
        converted = converter(row)
    except Exception as error:
        return {"error": f"converter: {error!r}"}
    if not converted["_response"]:
        return {"error": "dropped"}
    try:
        made = processor.preprocess_dataset({key: [value] for key, value in converted.items()})
    except Exception as error:
        return {"error": f"tokenising: {error!r}"}
    # A template's own token that this tokenizer does not have is None.
    ids = [token for token in made["input_ids"][0] if token is not None]
    trained = [token for token in made["labels"][0] if token is not None and token >= 0]
    return {"error": None, "text": tokenizer.decode(ids), "trained": tokenizer.decode(trained)}


def describe_templates() -> dict[str, Any]:
    """Return what each registered template can carry."""
    from llamafactory.data.template import TEMPLATES, Llama2Template

    described = {}
    for name, template in TEMPLATES.items():
        observation = "".join(slot for slot in template.format_observation.slots if isinstance(slot, str))
        # This class of templates hands no words to the formatter of calls.
        words = not isinstance(template, Llama2Template)
        described[name] = {
            "tool_format": template.format_tools.tool_format,
            "wraps_results": "<tool_response>\n{{content}}\n</tool_response>" in observation,
            "call_words": template.tool_call_words if words else None,
            "think_words": template.thought_words if words else None,
        }
    return described


def load_folder(folder: str, name: str, template_name: str) -> dict[str, Any]:
    """Return how many examples a training gets from a dataset, and what is declared of it."""
    from datasets import config
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.hparams import DataArguments, ModelArguments, TrainingArguments

    config.HF_DATASETS_CACHE = Path(os.environ["AGENT_SFT_SCRATCH"])
    [attr] = get_dataset_list([name], folder)
    data_args = DataArguments(template=template_name, dataset=name, dataset_dir=folder, cutoff_len=12000)
    training_args = TrainingArguments(output_dir=str(Path(folder, "out")), use_cpu=True, report_to="none")
    tokenizer = byte_tokenizer()
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    module = get_dataset(
        template, ModelArguments(model_name_or_path="none"), data_args, training_args, stage="sft", tokenizer=tokenizer
    )
    return {"examples": len(module["train_dataset"]), "columns": vars(attr)}


def main() -> None:
    """Answer one question."""
    os.environ["TOKENIZERS_PARALLELISM"] = "0"
    question = json.load(sys.stdin)
    answer: Any
    if "folder" in question:
        answer = load_folder(question["folder"], question["name"], question["template"])
    elif "registry" in question:
        answer = describe_templates()
    else:
        answer = [judge_rows(rows, template) for template, rows in question["batches"]]
    print(json.dumps(answer), file=sys.__stdout__)


if __name__ == "__main__":
    main()
