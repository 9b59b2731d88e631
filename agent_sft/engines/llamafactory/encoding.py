"""The tokens that LLaMA-Factory trains on, and those that carry loss, asked of LLaMA-Factory itself."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agent_sft.engines.environments import call_inside
from agent_sft.engines.llamafactory.facts import INSIDE
from agent_sft.engines.llamafactory.launch import SHARED
from agent_sft.engines.llamafactory.tokenizer_record import record_path
from agent_sft.errors import WorkFailed

ENCODE, COUNT = INSIDE / "encode.py", INSIDE / "count.py"

ENCODING_KEYS = (
    "add_special_tokens",
    "add_tokens",
    "cache_dir",
    "cutoff_len",
    "default_system",
    "enable_thinking",
    "mask_history",
    "model_name_or_path",
    "model_revision",
    "neat_packing",
    "new_special_tokens_config",
    "packing",
    "preserve_thinking",
    "resize_vocab",
    "split_special_tokens",
    "template",
    "tool_format",
    "train_on_prompt",
    "trust_remote_code",
    "use_fast_tokenizer",
)
"""LLaMA-Factory's settings that decide which tokens a conversation becomes, and which of them carry loss."""


@dataclass(frozen=True)
class EncodedRow:
    """A row as a training gets it, after truncation."""

    row: int
    """Line of the data file, from 1."""
    ids: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    """The id again where it carries loss, -100 elsewhere."""
    pieces: tuple[tuple[str, int], ...] = ()
    """The text, cut between tokens, and how many tokens each piece has; only where it was asked for."""
    error: str | None = None
    """Why LLaMA-Factory does not train on it."""

    @property
    def loss_tokens(self) -> int:
        """Tokens that carry loss."""
        return sum(label >= 0 for label in self.labels)


@dataclass(frozen=True)
class TurnCounts:
    """The tokens of a row before any truncation."""

    row: int
    """Line of the data file, from 1."""
    pairs: tuple[tuple[int, int], ...] = ()
    """Tokens of each prompt and its answer. The first prompt includes the system text and the tools."""
    head: int = 0
    """Tokens of the system text and the tools."""
    extra: int = 0
    """Tokens that stand outside of all pairs."""
    ends: int = 0
    """Tokens with loss that end an answer and count as the beginning of the next prompt, or as `extra`."""
    prompts: bool = False
    """Whether prompts carry loss too (`train_on_prompt`)."""
    error: str | None = None
    """Why LLaMA-Factory does not train on it."""

    @property
    def total(self) -> int:
        """All tokens of the row."""
        return self.extra + sum(prompt + answer for prompt, answer in self.pairs)

    @property
    def loss_tokens(self) -> int:
        """Tokens that carry loss, if all answers do."""
        return self.total if self.prompts else sum(answer + self.ends for _, answer in self.pairs)


@dataclass(frozen=True)
class EncodingFacts:
    """What was learned about the settings on the way."""

    rows: int
    """Rows that were looked at."""
    cutoff: int
    """Tokens that a row may have: `cutoff_len`, one less where rows are packed."""
    efficient_eos: bool
    """Whether the template ends a turn with the token that begins the next one."""
    seconds: float
    """Time spent on the rows, without starting the engine."""
    started: bool
    """Whether LLaMA-Factory was started for it."""


def example_limit(settings: Mapping[str, Any]) -> int:
    """Return the tokens that an example may have: LLaMA-Factory takes one off where it packs."""
    return int(settings["cutoff_len"]) - bool(settings.get("packing") or settings.get("neat_packing"))


def encoding_settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of LLaMA-Factory's settings that decide on tokens and loss."""
    return {key: arguments[key] for key in ENCODING_KEYS if key in arguments}


@contextmanager
def encoded_rows(
    python: Path,
    folder: Path,
    dataset: str,
    settings: Mapping[str, Any],
    *,
    rows: Collection[int] | None = None,
    pieces: bool = False,
) -> Iterator[tuple[EncodingFacts, Iterator[EncodedRow]]]:
    """Encode rows of a prepared dataset as a training by these settings encodes them.

    Starting the engine takes some 10 s. Rows are read back one at a time: memory does not grow with the data.

    Args:
        python: the train environment's.
        folder: holds the data as JSON lines, and the `dataset_info.json` that declares them.
        dataset: its name there.
        settings: LLaMA-Factory's; those that do not bear on tokens are left out.
        rows: line numbers, from 1; all when None.
        pieces: also give the text, cut between tokens.

    Raises:
        WorkFailed: the model's tokenizer or a setting cannot be used.
    """
    what = "pieces" if pieces else "tokens"
    with tempfile.TemporaryDirectory(prefix="agent-sft-") as scratch:
        order = _order(folder, dataset, settings, what, rows, Path(scratch))
        facts = call_inside(python, ENCODE, payload=order, started=SHARED.forked)
        with Path(order["output"]).open("rb") as lines:
            yield EncodingFacts(**facts, started=True), (_encoded(orjson.loads(line)) for line in lines)


@contextmanager
def counted_turns(
    python: Path,
    folder: Path,
    dataset: str,
    settings: Mapping[str, Any],
    *,
    rows: Collection[int] | None = None,
) -> Iterator[tuple[EncodingFacts, Iterator[TurnCounts]]]:
    """Count the tokens of every turn of a prepared dataset, before truncation.

    LLaMA-Factory is not started for that where its templates alone and the model's tokenizer give the same numbers:
    the first count with a tokenizer and a template takes some 2 s, later ones some tenths of a second.

    With a template for reasoning and `mask_history`, LLaMA-Factory takes the reasoning out of all but the last
    answer; it is counted here, so that the counts hold for a conversation that ends with any of its turns.

    Args and errors are those of `encoded_rows`.
    """
    with tempfile.TemporaryDirectory(prefix="agent-sft-") as scratch:
        order = _order(folder, dataset, settings, "counts", rows, Path(scratch))
        record = record_path(python, order["settings"])
        light = order | {"record": str(record), "cutoff": example_limit(settings)}
        facts = None if record is None else _counted_lightly(python, light)
        started = facts is None
        facts = facts or call_inside(python, ENCODE, payload=order, started=SHARED.forked)
        with Path(order["output"]).open("rb") as lines:
            known = EncodingFacts(**facts, started=started)
            prompts = bool(settings.get("train_on_prompt"))
            yield known, (_counted(orjson.loads(line), known, prompts) for line in lines)


def _counted_lightly(python: Path, order: dict[str, Any]) -> dict[str, Any] | None:
    """Count without starting LLaMA-Factory; None where that cannot be done and it is to be asked."""
    try:
        facts: dict[str, Any] = call_inside(python, COUNT, payload=order, started=SHARED.forked)
    except WorkFailed:
        return None  # whatever is wrong with the rows or the settings, LLaMA-Factory says it in its own words
    return None if "refused" in facts else facts


def _order(
    folder: Path,
    dataset: str,
    settings: Mapping[str, Any],
    what: str,
    rows: Collection[int] | None,
    scratch: Path,
) -> dict[str, Any]:
    return {
        "settings": {**encoding_settings(settings), "dataset": dataset, "dataset_dir": str(folder.absolute())},
        "output": str(scratch / "rows.jsonl"),
        "what": what,
        "rows": None if rows is None else sorted(rows),
    }


def _encoded(line: dict[str, Any]) -> EncodedRow:
    return EncodedRow(
        row=line["row"],
        ids=tuple(line.get("ids", ())),
        labels=tuple(line.get("labels", ())),
        pieces=tuple((text, count) for text, count in line.get("pieces", ())),
        error=line.get("error"),
    )


def _counted(line: dict[str, Any], facts: EncodingFacts, prompts: bool) -> TurnCounts:
    return TurnCounts(
        row=line["row"],
        pairs=tuple((prompt, answer) for prompt, answer in line.get("pairs", ())),
        head=line.get("head", 0),
        extra=line.get("extra", 0),
        ends=int(facts.efficient_eos),
        prompts=prompts,
        error=line.get("error"),
    )
