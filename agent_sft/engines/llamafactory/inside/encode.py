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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llamafactory.data import get_template_and_fix_tokenizer
from llamafactory.data.converter import get_dataset_converter
from llamafactory.data.parser import get_dataset_list
from llamafactory.data.processor import SupervisedDatasetProcessor
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer

BATCH_CHARACTERS = 4_000_000
"""Of texts that are tokenised at once: enough to keep all processors busy."""
KNOWN_CHARACTERS = 32_000_000
"""Of texts whose count is remembered: policies and tools that many rows share."""
LONGEST_PIECE = 8
"""Tokens that a character's bytes can be spread over."""


class TextCollector:
    """Stands in for a tokenizer: every text becomes one number below zero, to be tokenised with others later."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.texts: list[str] = []

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Note a text and return its place holder: -1 for the first one, -2 for the next."""
        self.texts.append(text)
        return [-len(self.texts)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


class Counter:
    """Counts the tokens of texts, many at once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        tokenizer.encode("", add_special_tokens=False)  # sets the backend up as every later call would
        self._backend = getattr(tokenizer, "backend_tokenizer", None) if tokenizer.is_fast else None
        self._known: dict[str, int] = {}
        self._characters = 0

    def count(self, texts: list[str]) -> list[int]:
        """Return the number of tokens of each text."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        known = {text: self._known[text] for text in texts if text in self._known}
        known.update(zip(new, map(len, self._encode(new)), strict=True))
        for text in new:
            self._remember(text, known[text])
        return [known[text] for text in texts]

    def _encode(self, texts: list[str]) -> list[Any]:
        if self._backend is None:
            return [self._tokenizer.encode(text, add_special_tokens=False) for text in texts]
        encoded: list[Any] = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return encoded

    def _remember(self, text: str, count: int) -> None:
        self._characters += len(text)
        if self._characters > KNOWN_CHARACTERS:
            self._known.clear()
            self._characters = len(text)
        self._known[text] = count


class Encoder:
    """LLaMA-Factory's way from a row to tokens."""

    def __init__(self, settings: dict[str, Any], scratch: str) -> None:
        fixed = {"stage": "sft", "do_train": True, "bf16": False, "report_to": "none", "output_dir": scratch}
        model_args, data_args, *_ = get_train_args({**settings, **fixed})
        module = load_tokenizer(model_args)
        self.tokenizer = module["tokenizer"]
        self.vision = module["processor"]
        self.template = get_template_and_fix_tokenizer(self.tokenizer, data_args)
        [attributes] = get_dataset_list(data_args.dataset, data_args.dataset_dir)
        self.path = Path(data_args.dataset_dir) / attributes.dataset_name
        self.cutoff = data_args.cutoff_len
        self._convert = get_dataset_converter(attributes.formatting, attributes, data_args)
        self._processor = SupervisedDatasetProcessor(self.template, self.tokenizer, self.vision, data_args)

    def rows(self, wanted: set[int] | None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number and the converted content of the rows that are asked for."""
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if wanted is None or number in wanted:
                    yield number, self._convert(json.loads(line))

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
            # The first pair a second time, where nothing stands before it: the difference is the system text.
            pairs = self.template.encode_multiturn(
                collector, [*messages, *messages[:2]], row["_system"], row["_tools"], False
            )
        except Exception as error:
            return {"error": f"LLaMA-Factory fails on it: {error}"}
        return {"pairs": pairs, "extra": len(extra) + int(self.template.efficient_eos)}


def counts(encoder: Encoder, rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yield the token counts of rows, tokenising the texts of many rows at once."""
    counter = Counter(encoder.tokenizer)
    collector = TextCollector(encoder.tokenizer)
    waiting: list[dict[str, Any]] = []
    size = seen = 0
    for number, row in rows:
        waiting.append({"row": number, **encoder.collect(row, collector)})
        size += sum(map(len, collector.texts[seen:]))
        seen = len(collector.texts)
        if size >= BATCH_CHARACTERS:
            yield from resolved(waiting, counter.count(collector.texts))
            collector, waiting, size, seen = TextCollector(encoder.tokenizer), [], 0, 0
    yield from resolved(waiting, counter.count(collector.texts))


def resolved(rows: list[dict[str, Any]], lengths: list[int]) -> Iterator[dict[str, Any]]:
    """Put numbers in the place of texts."""
    for row in rows:
        if "pairs" in row:
            *pairs, (first, _) = [
                tuple(sum(lengths[-item - 1] if item is not None and item < 0 else 1 for item in part) for part in pair)
                for pair in row["pairs"]
            ]
            row |= {"pairs": pairs, "head": pairs[0][0] - first}
        yield row


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
        found = counts(encoder, rows)
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
