"""Tokens and loss, counted as LLaMA-Factory itself encodes rows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from agent_sft.data.preparing import prepare_dataset
from agent_sft.engines.llamafactory.encoding import (
    EncodedRow,
    TurnCounts,
    counted_turns,
    encoded_rows,
    encoding_settings,
)
from agent_sft.engines.llamafactory.tiny import make_tiny_model
from agent_sft.errors import WorkFailed
from tests.support import SMALL, conversations

TOOLS = json.dumps([{"name": "get_line", "parameters": {"type": "object", "properties": {"id": {"type": "string"}}}}])


def with_tools() -> dict[str, Any]:
    """A row with tools, a call, a result and characters that need several tokens."""
    turns = [
        ("human", "Mein Anschluß 🦉🦉 is dead."),
        ("function_call", '{"name": "get_line", "arguments": {"id": "L1"}}'),
        ("observation", '{"state": "down"}'),
        ("gpt", "Die Leitung ist gestört 🦉."),
    ]
    return {"conversations": [{"from": role, "value": text} for role, text in turns], "tools": TOOLS}


@dataclass(frozen=True)
class Encoded:
    """The small example data and a row with tools."""

    python: Path
    folder: Path
    settings: dict[str, Any]

    def rows(self, **settings: Any) -> list[EncodedRow]:
        pieces = settings.pop("pieces", False)
        wanted = settings.pop("rows", None)
        given = {**self.settings, **settings}
        with encoded_rows(self.python, self.folder, "d", given, rows=wanted, pieces=pieces) as (_, rows):
            return list(rows)

    def counts(self, **settings: Any) -> list[TurnCounts]:
        with counted_turns(self.python, self.folder, "d", {**self.settings, **settings}) as (_, rows):
            return list(rows)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory, train_python: Path) -> Encoded:
    folder = tmp_path_factory.mktemp("encoded")
    source = folder / "source.json"
    source.write_text(json.dumps([*conversations(), with_tools()]), encoding="utf-8")
    prepare_dataset(source, name="d", folder=folder / "data")
    make_tiny_model(train_python, folder / "data" / "d.jsonl", folder / "base", seed=1)
    settings = {"model_name_or_path": str(folder / "base"), "template": "qwen", "cutoff_len": 12000}
    return Encoded(train_python, folder / "data", settings)


@pytest.mark.slow
def test_the_fast_count_is_the_number_of_tokens_that_are_trained_on(encoded: Encoded) -> None:
    rows, counts = encoded.rows(pieces=True), encoded.counts(cutoff_len=10)
    assert [count.row for count in counts] == list(range(1, len(conversations()) + 2))
    assert [count.total for count in counts] == [len(row.ids) for row in rows]
    assert [count.loss_tokens for count in counts] == [row.loss_tokens for row in rows]
    assert all(0 < count.head < count.pairs[0][0] for count in counts)
    # The pieces are the whole text, and all tokens.
    assert all(sum(count for _, count in row.pieces) == len(row.ids) for row in rows)
    last = "".join(text for text, _ in rows[-1].pieces)
    assert "<|im_start|>user\nMein Anschluß 🦉🦉 is dead.<|im_end|>\n<|im_start|>assistant\n<tool_call>" in last
    assert "<|im_start|>user\n<tool_response>\n" in last


@pytest.mark.slow
def test_rows_that_are_asked_for_are_cut_as_the_training_cuts_them(encoded: Encoded) -> None:
    rows = encoded.rows(cutoff_len=300, rows=[3, 25], mask_history=True)
    assert [row.row for row in rows] == [3, 25]
    assert [len(row.ids) <= 300 for row in rows] == [True, True]
    # mask_history: the loss is one stretch at the end, the last answer.
    first = next(index for index, label in enumerate(rows[0].labels) if label >= 0)
    assert all(label >= 0 for label in rows[0].labels[first:-1])


@pytest.mark.slow
def test_a_model_that_is_not_there_is_said_with_the_engines_words(encoded: Encoded, tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match=r"encode.py failed"):
        encoded.rows(model_name_or_path=str(tmp_path / "none"))


def test_only_settings_that_bear_on_tokens_reach_the_encoder() -> None:
    given = {"template": "qwen", "learning_rate": 1e-5, "deepspeed": "x.json", "mask_history": True}
    assert encoding_settings(given) == {"template": "qwen", "mask_history": True}


@pytest.mark.slow
def test_a_preview_shows_the_row_and_writes_a_page(call_cli: Callable[..., Any], tmp_path: Path) -> None:
    done = call_cli("data", "preview", SMALL, "--model", "tiny", "--row", "3", "--html", tmp_path / "p.html")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<|im_start|>system\nYou are a support agent")
    assert "⟦One moment, I'll find your account." in done.stdout
    assert "row 3: 5" in done.stderr
    assert "<h2>row 3: 5" in (tmp_path / "p.html").read_text(encoding="utf-8")


class WithLoss(HTMLParser):
    """Counts the tokens of the spans that a page shows as carrying loss."""

    tokens = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "span" and "l" in (given.get("class") or "").split() and "title" in given:
            self.tokens += len((given["title"] or "").split())


@pytest.mark.slow
def test_previews_and_statistics_show_the_same_tokens_with_loss(call_cli: Callable[..., Any], tmp_path: Path) -> None:
    """What previews show is what a training loads: tests/test_turn_counts.py."""
    rows = [word for row in range(1, 25) for word in ("--row", str(row))]
    shown = call_cli("data", "preview", SMALL, "--model", "tiny", *rows, "--html", tmp_path / "rows.html")
    stats = call_cli("data", "stats", SMALL, "--model", "tiny", "--html", tmp_path / "stats.html")
    assert (shown.returncode, stats.returncode) == (0, 0), shown.stderr + stats.stderr
    each = [int(found.replace(",", "")) for found in re.findall(r"tokens, ([\d,]+) with loss", shown.stderr)]
    spans = WithLoss()
    spans.feed((tmp_path / "rows.html").read_text(encoding="utf-8"))
    counted = re.search(r"with loss +([\d,]+) \((\d+)%\)", stats.stdout)
    assert counted is not None and len(each) == 24
    assert int(counted[1].replace(",", "")) == sum(each) == spans.tokens > 1000
    assert f"{counted[1]} ({counted[2]}%)" in (tmp_path / "stats.html").read_text(encoding="utf-8")


def test_a_preview_of_a_row_that_is_not_there_says_how_many_there_are(call_cli: Callable[..., Any]) -> None:
    done = call_cli("data", "preview", SMALL, "--model", "tiny", "--row", "99")
    assert done.returncode == 2
    assert "row 99: there are 24 rows" in done.stderr
