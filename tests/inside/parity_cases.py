"""Compares rows under many chat templates at once. Runs inside the train environment.

Reads {"program": path of parity.py, "cases": [{"settings", "rows", "chat_template", "special": [token, ...],
"bos", "eos"}, ...]} as JSON from standard input; the tokenizer has a token for each byte and the special ones.
Writes what `compare` returns for each case.
"""

from __future__ import annotations

import copy
import json
import os
import runpy
import sys
from typing import Any


def byte_tokenizer(case: dict[str, Any]) -> Any:
    """Return a tokenizer with the special tokens and the chat template of a case."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merged = "ĊĊ"  # two line breaks are one token, as in most vocabularies
    vocabulary = {symbol: index for index, symbol in enumerate([*alphabet, merged])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ċ", "Ċ")]))
    lines = pre_tokenizers.Split(Regex(r"[\r\n]+|[^\r\n]+"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [lines, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=case["bos"], eos_token=case["eos"], pad_token=case["eos"]
    )
    made.add_special_tokens({"additional_special_tokens": case["special"]})
    made.chat_template = case["chat_template"]
    return made


def main() -> None:
    """Answer every case."""
    question = json.load(sys.stdin)
    os.environ["TOKENIZERS_PARALLELISM"] = "0"
    from llamafactory.data import template as templates
    from llamafactory.hparams import DataArguments

    compare = runpy.run_path(question["program"])["compare"]
    found = []
    for case in question["cases"]:
        tokenizer = byte_tokenizer(case)
        name = case["settings"]["template"]
        kept = copy.deepcopy(templates.TEMPLATES[name])  # settings change it in its place
        template = templates.get_template_and_fix_tokenizer(tokenizer, DataArguments(**case["settings"]))
        found.append(compare(tokenizer, template, case["settings"], case["rows"]))
        templates.TEMPLATES[name] = kept
    print(json.dumps(found), file=sys.__stdout__)


if __name__ == "__main__":
    main()
