"""Encodes prepared conversations by LLaMA-Factory's own converter, template and processor.

Standard input: {"settings": LLaMA-Factory's settings with `dataset` and `dataset_dir`, "output": file,
"what": "counts", "tokens" or "pieces", "rows": line numbers from 1, or null for all}. The dataset must be a file
of JSON lines. `output` gets one JSON line for each row, in order:

    counts  {"row", "pairs": [[prompt tokens, answer tokens], ...], "head": tokens of system text and tools,
             "extra": tokens outside of all pairs}, before any truncation
    tokens  {"row", "ids", "labels"}: what a training gets, after truncation; -100 is no loss
    pieces  the same with "pieces": [[text, number of tokens], ...], tokens that share a character together

A row that LLaMA-Factory leaves out or fails on has "error" in place of all that. Standard output gets
{"rows": how many, "cutoff": tokens that a row may have, "efficient_eos": bool, "seconds": spent on rows}.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llamafactory.data import get_template_and_fix_tokenizer
from llamafactory.data.converter import get_dataset_converter
from llamafactory.data.parser import get_dataset_list
from llamafactory.data.processor import SupervisedDatasetProcessor
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer
from turn_counts import TextCollector, collected, counts, numbered_rows

LONGEST_PIECE = 8
"""Tokens that a character's bytes can be spread over."""


class Encoder:
    """LLaMA-Factory's way from a row to tokens."""

    def __init__(self, settings: dict[str, Any], scratch: str) -> None:
        fixed = {"stage": "sft", "do_train": True, "bf16": False, "report_to": "none", "output_dir": scratch}
        model_args, data_args, *_ = get_train_args({**settings, **fixed})
        module = load_tokenizer(model_args)
        self.tokenizer = module["tokenizer"]
        self.vision = module["processor"]
        self.template = get_template_and_fix_tokenizer(self.tokenizer, data_args)
        self.tokenizer.encode("", add_special_tokens=False)  # sets the backend up as every later call would
        self.backend = getattr(self.tokenizer, "backend_tokenizer", None) if self.tokenizer.is_fast else None
        [attributes] = get_dataset_list(data_args.dataset, data_args.dataset_dir)
        self.path = Path(data_args.dataset_dir) / attributes.dataset_name
        self.cutoff = data_args.cutoff_len
        self._convert = get_dataset_converter(attributes.formatting, attributes, data_args)
        self._processor = SupervisedDatasetProcessor(self.template, self.tokenizer, self.vision, data_args)

    def rows(self, wanted: set[int] | None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number and the converted content of the rows that are asked for."""
        return ((number, self._convert(row)) for number, row in numbered_rows(self.path, wanted))

    def encode(self, row: dict[str, Any], pieces: bool) -> dict[str, Any]:
        """Return the tokens and the labels of a converted row as a training gets them."""
        try:
            made = self._processor.preprocess_dataset({key: [value] for key, value in row.items()})
        except Exception as error:
            return {"error": f"LLaMA-Factory fails on it: {error}"}
        if not made["input_ids"]:
            return {"error": "LLaMA-Factory leaves it out"}
        ids, labels = made["input_ids"][0], made["labels"][0]
        return {"ids": ids, "labels": labels} | ({"pieces": self._pieces(ids, labels)} if pieces else {})

    def _pieces(self, ids: list[int], labels: list[int]) -> list[tuple[str, int]]:
        """Cut the tokens into the shortest runs of equal loss that are whole characters."""
        found: list[tuple[str, int]] = []
        before: list[int] = []
        run: list[int] = []
        for index, token in enumerate(ids):
            run.append(token)
            # Decoded with what stands before it: some tokenizers drop the space that a text begins with.
            text = self._decode(before + run).removeprefix(self._decode(before))
            last = index + 1 == len(ids) or (labels[index] < 0) != (labels[index + 1] < 0)
            if not text.endswith("\ufffd") or last or len(run) == LONGEST_PIECE:
                found.append((text, len(run)))
                before, run = run, []
        return found

    def _decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def collect(self, row: dict[str, Any], collector: TextCollector) -> dict[str, Any]:
        """Return the pairs of a converted row as numbers of tokens and place holders of texts."""
        if len(row["_prompt"]) % 2 != 1 or len(row["_response"]) != 1:
            return {"error": "LLaMA-Factory leaves it out"}
        try:
            plugin = self.template.mm_plugin
            media: tuple[list[Any], ...] = ([], [], [])
            messages = plugin.process_messages(row["_prompt"] + row["_response"], *media, self.vision)
            extra, _ = plugin.process_token_ids([], [], *media, self.tokenizer, self.vision)
            found = collected(self.template, collector, messages, row["_system"], row["_tools"])
        except Exception as error:
            return {"error": f"LLaMA-Factory fails on it: {error}"}
        return {**found, "extra": len(extra) + found["extra"]}

    def encode_all(self, texts: list[str]) -> Sequence[Any]:
        """Return the tokens of texts."""
        if self.backend is None:
            return [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]
        encoded: list[Any] = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return encoded


def main() -> None:
    """Encode what is asked for."""
    order = json.load(sys.stdin)
    wanted = None if order["rows"] is None else set(order["rows"])
    written = 0
    with tempfile.TemporaryDirectory() as scratch:
        encoder = Encoder(order["settings"], scratch)
    began = time.perf_counter()
    rows = encoder.rows(wanted)
    if order["what"] == "counts":
        found = counts(rows, encoder.collect, encoder.tokenizer, encoder.encode_all)
    else:
        found = ({"row": number, **encoder.encode(row, order["what"] == "pieces")} for number, row in rows)
    with Path(order["output"]).open("w", encoding="utf-8", errors="replace") as output:
        for line in found:
            output.write(json.dumps(line, separators=(",", ":")) + "\n")
            written += 1
    result = {
        "rows": written,
        "cutoff": encoder.cutoff,
        "efficient_eos": bool(encoder.template.efficient_eos),
        "seconds": time.perf_counter() - began,
    }
    print(json.dumps(result), file=sys.__stdout__)


if __name__ == "__main__":
    main()
