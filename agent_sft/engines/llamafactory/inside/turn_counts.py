"""Counts the tokens of every turn, by any template of LLaMA-Factory and any tokenizer; imports neither."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

BATCH_CHARACTERS = 4_000_000
"""Of texts that are tokenised at once: enough to keep all processors busy."""
KNOWN_CHARACTERS = 32_000_000
"""Of texts whose count is remembered: policies and tools that many rows share."""


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
    """Counts the tokens of texts, many at once, each text only once."""

    def __init__(self, encode: Callable[[list[str]], Sequence[Any]]) -> None:
        self._encode = encode
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

    def _remember(self, text: str, count: int) -> None:
        self._characters += len(text)
        if self._characters > KNOWN_CHARACTERS:
            self._known.clear()
            self._characters = len(text)
        self._known[text] = count


def numbered_rows(path: Path, wanted: set[int] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a file of JSON lines that are asked for, all when None, with their numbers from 1."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if wanted is None or number in wanted:
                yield number, json.loads(line)


def collected(
    template: Any, collector: TextCollector, messages: list[dict[str, str]], system: str | None, tools: str | None
) -> dict[str, Any]:
    """Return the pairs of a row as numbers of tokens and place holders of texts."""
    # The first pair a second time, where nothing stands before it: the difference is the system text.
    pairs = template.encode_multiturn(collector, [*messages, *messages[:2]], system, tools, False)
    return {"pairs": pairs, "extra": int(template.efficient_eos)}


def counts(
    rows: Iterable[tuple[int, Any]],
    collect: Callable[[Any, TextCollector], dict[str, Any]],
    tokenizer: Any,
    encode: Callable[[list[str]], Sequence[Any]],
) -> Iterator[dict[str, Any]]:
    """Yield the token counts of numbered rows, tokenising the texts of many rows at once.

    Args:
        rows: with their numbers.
        collect: returns what `collected` does, or an `error`, for a row.
        tokenizer: what a template asks for single tokens.
        encode: turns texts into tokens, of which the number alone is of interest.
    """
    counter = Counter(encode)
    collector = TextCollector(tokenizer)
    waiting: list[dict[str, Any]] = []
    size = seen = 0
    for number, row in rows:
        waiting.append({"row": number, **collect(row, collector)})
        size += sum(map(len, collector.texts[seen:]))
        seen = len(collector.texts)
        if size >= BATCH_CHARACTERS:
            yield from _resolved(waiting, counter.count(collector.texts))
            collector, waiting, size, seen = TextCollector(tokenizer), [], 0, 0
    yield from _resolved(waiting, counter.count(collector.texts))


def _resolved(rows: list[dict[str, Any]], lengths: list[int]) -> Iterator[dict[str, Any]]:
    """Put numbers in the place of texts."""
    for row in rows:
        if "pairs" in row:
            *pairs, (first, _) = [
                tuple(sum(lengths[-item - 1] if item is not None and item < 0 else 1 for item in part) for part in pair)
                for pair in row["pairs"]
            ]
            row |= {"pairs": pairs, "head": pairs[0][0] - first}
        yield row
