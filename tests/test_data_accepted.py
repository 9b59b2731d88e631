"""What LLaMA-Factory itself makes of the rows: its converter, its tokenising and its loader, as a training runs them.

All that is accepted here is tokenised there, and all that it cannot use is mended or rejected here.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent_sft.data import dialects
from agent_sft.data.dialects import dialect_of
from agent_sft.data.merging import merge_file
from agent_sft.data.preparing import prepare_dataset
from agent_sft.data.reading import read_rows
from agent_sft.data.sharegpt import Example, normalise
from agent_sft.data.turns import FUNCTION_CALL, GPT, OBSERVATION, Unusable
from tests.accepting import ask

pytestmark = pytest.mark.slow

TEMPLATES = (
    "qwen", "qwen3", "qwen3_5", "default", "llama2", "llama3", "mistral", "glm4", "glm4_moe", "glm4_7", "gemma2",
    "gemma4", "gpt_oss", "hy3", "seed_oss", "lfm2", "minimax1", "minimax2", "bailing_v2", "deepseekr1", "mimo_v2",
)  # fmt: skip

A = '{"name": "look", "arguments": {"id": 7, "deep": {"é": [1, null]}}}'
B = '{"name":"pay","arguments":{}}'
TOOL = {
    "name": "look",
    "description": "Looks.",
    "parameters": {"type": "object", "properties": {"id": {"type": "int"}}},
}
ODD = {"properties": {"x": {"enum": [1, 2], "items": {"type": "int"}}}, "required": ["x"]}

TEXTS: dict[str, list[Any]] = {
    "human": ["hi", "", "{{content}}", "{{idx}}", '{"result": 1}', "<|im_end|>", None, 3],
    "gpt": ["sure", "", f"<tool_call>\n{A}\n</tool_call>", "<think>w</think>so", "{{content}}", None],
    "observation": ['{"ok": true}', "plain", "{{content}}", "</tool_response>"],
    "system": ["be kind", ""],
    "function_call": [
        A, B, A, f"[{A}, {B}]", f" {A}\n", f"{A}\n{B}", "[]", "null", "text", f"so: {A}", A[:-1],
        f"<think>w</think>{A}", f"<think>w</think>\n{A}", f"<think>\nw\n</think>\n\n{A}", f"<think>\n\n</think>\n\n{B}",
        f"<think>w</think>\nso\n{A}", f"prose\n<tool_call>\n{A}\n</tool_call>", f"<tool_call>{A}</tool_call>",
        f"<tool_call>{A}</tool_call>\n<tool_call>{B}</tool_call>", f"<tool_call>{A}</tool_call>after",
        f"<think>w</think><tool_call>[{A},{B}]</tool_call>", "<tool_call>text</tool_call>", "<tool_call>" + A,
        '{"name": "look"}', '{"arguments": {}}', '{"name": "look", "arguments": "{\\"x\\": 1}"}',
        '{"name": "look", "arguments": null}', '{"name": "look", "arguments": {"x": "\\ud800"}}',
        '{"name": "look", "arguments": {"x": "<tool_call>1</tool_call>"}}',
        '{"name": "look", "arguments": {"x": "<think>1</think>", "y": NaN}}',
        '{"type": "function", "function": {"name": "look", "arguments": "{}"}}',
    ],
}  # fmt: skip

COLUMNS: dict[str, list[Any]] = {
    "system": ["", None, "rules", "rules", ["rules"]],
    "tools": [
        "", None, "[]", "", " ", "null", "{", [TOOL], json.dumps([TOOL]), json.dumps([{"type": "function",
        "function": TOOL}]), TOOL, ["look"], [{"name": "bare"}], [{"name": "odd", "parameters": ODD}],
        '[{"type": "function"}]', [{"type": "function", "name": "flat", "parameters": {"properties": {}}}],
    ],
}  # fmt: skip

FOLLOWS = {
    "human": ["gpt", "gpt", "function_call", "function_call", "human", "observation"],
    "gpt": ["human", "human", "human", "gpt", "function_call", "observation", "system"],
    "function_call": ["observation", "observation", "observation", "observation", "function_call", "gpt", "human"],
    "observation": ["gpt", "gpt", "function_call", "observation", "human"],
    "system": ["human", "human", "human", "gpt", "system"],
}


def nasty_rows(count: int) -> Iterator[dict[str, Any]]:
    """Yield conversations that are mostly right, with faults of every kind in them."""
    rng = random.Random(11)
    for _ in range(count):
        role = rng.choice(["human"] * 8 + ["system", "system", "gpt", "observation", "function_call"])
        turns = []
        for _ in range(rng.choice([1, 2, 2, 3, 4, 4, 5, 6, 7, 8])):
            texts = TEXTS[role]
            turns.append({"from": role, "value": texts[0] if rng.random() < 0.5 else rng.choice(texts)})
            role = rng.choice(FOLLOWS[role])
        columns = {name: values[0] if rng.random() < 0.6 else rng.choice(values) for name, values in COLUMNS.items()}
        yield {"conversations": turns, **columns}


def outcome(row: Any, template: str) -> Example | None:
    try:
        return normalise(row, dialect_of(template))
    except Unusable:
        return None


@dataclass(frozen=True)
class Asked:
    """What was asked of LLaMA-Factory, in one go because starting it takes seconds, and its answers."""

    rows: list[dict[str, Any]]
    """Nasty rows, and what it makes of them as they are."""
    raw: list[dict[str, Any]]
    kept: dict[str, list[Example]]
    """What is left of them for each template, and what it makes of that."""
    answers: dict[str, list[dict[str, Any]]]
    example: list[dict[str, Any]]
    """The answers on the example of 500 conversations, and on the same after the merge."""
    merged: list[dict[str, Any]]


@pytest.fixture(scope="module")
def asked(train_python: Path, repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = tmp_path_factory.mktemp("asked")
    rows = list(nasty_rows(3000))
    kept = {name: [example for row in rows if (example := outcome(row, name))] for name in TEMPLATES}
    source = repo / "examples" / "data" / "telecom_syc_5pct_500_processed.json"
    merge_file(source, folder / "merged.json")
    files = [[{**row, "tools": ""} for _, row in read_rows(path)] for path in (source, folder / "merged.json")]
    batches = [(name, [example.as_row() for example in examples]) for name, examples in kept.items()]
    batches += [("qwen", rows), *(("qwen", file) for file in files)]
    *answers, raw, example, merged = ask(train_python, {"batches": batches}, folder)
    return Asked(rows, raw, kept, dict(zip(kept, answers, strict=True)), example, merged)


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_accepted_row_is_tokenised(asked: Asked, template: str) -> None:
    kept, answers = asked.kept[template], asked.answers[template]
    assert len(kept) > 300, "there is something to ask about"
    faults = [(row, answer["error"]) for row, answer in zip(kept, answers, strict=True) if answer["error"]]
    assert not faults, (len(faults), faults[0])


def test_what_llamafactory_cannot_use_is_mended_or_rejected(asked: Asked) -> None:
    left_alone = mended = rejected = 0
    for row, answer in zip(asked.rows, asked.raw, strict=True):
        example = outcome(row, "qwen")
        if answer["error"] is None:
            left_alone += example is not None and example.as_row() == row
        elif example is None:
            rejected += 1
        else:
            assert example.as_row() != row, answer["error"]
            mended += 1
    assert left_alone > 100
    assert mended > 100, "rows that would have been lost or ended the training are kept"
    assert rejected > 500


def test_every_text_that_is_kept_is_tokenised_in_its_place(asked: Asked) -> None:
    for example, answer in zip(asked.kept["qwen"], asked.answers["qwen"], strict=True):
        position = 0
        for turn in example.turns:
            text = f"<tool_response>\n{turn.text}\n</tool_response>" if turn.role == OBSERVATION else turn.text
            if turn.role == FUNCTION_CALL:
                text = "<tool_call>\n"
            position = answer["text"].index(text, position) + len(text)
        loss = [turn.text for turn in example.turns if turn.role == GPT]
        assert all(f"{text}<|im_end|>\n" in answer["trained"] for text in loss)


def test_the_converter_accepts_all_500_after_the_merge(asked: Asked) -> None:
    assert [answer["error"] for answer in asked.merged] == [None] * 500
    assert sum(answer["error"] == "dropped" for answer in asked.example) >= 483, "without the merge they are lost"


def test_a_training_loads_as_many_examples_as_were_promised(train_python: Path, repo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "with space" / "é"
    example = repo / "examples" / "data" / "airline_retail_40.json"
    good = [row for _, row in read_rows(example)]
    source = tmp_path / "mixed.json"
    source.write_text(json.dumps([*nasty_rows(1500), *good]))
    report = prepare_dataset(source, name="mixed", folder=folder)
    prepare_dataset(example, name="other", folder=folder)
    question = {"folder": str(folder), "name": "mixed", "template": "qwen"}
    answer = ask(train_python, question, tmp_path / "cache")
    assert answer["examples"] == report.examples > 200
    declared = answer["columns"]
    assert (declared["formatting"], declared["messages"]) == ("sharegpt", "conversations")
    assert (declared["system"], declared["tools"]) == ("system", "tools")
    tags = ("role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag")
    assert all(declared[tag] for tag in tags)


def test_the_tables_of_templates_are_those_of_llamafactory(train_python: Path, tmp_path: Path) -> None:
    registry = ask(train_python, {"registry": True}, tmp_path)

    def where(test: Any) -> set[str]:
        return {name for name, facts in registry.items() if test(facts)}

    assert where(lambda facts: facts["tool_format"] == "qwen") == dialects.QWEN_TOOLS
    assert where(lambda facts: facts["wraps_results"]) == dialects.WRAPS_RESULTS
    shown = ("qwen", "qwen3_5", "ling")
    assert where(lambda facts: facts["tool_format"] in shown) == dialects.DESCRIBED_TOOLS_ONLY
    assert where(lambda facts: facts["tool_format"] == "glm4") == dialects.SINGLE_CALL
    assert where(lambda facts: facts["call_words"] is None) == dialects.BARE_CALLS_ONLY
    foreign = where(lambda facts: facts["call_words"] not in (None, ["<tool_call>", "</tool_call>"]))
    assert foreign == dialects.FOREIGN_CALL_WORDS
    assert where(lambda facts: facts["think_words"] == ["<think>", "</think>"]) == dialects.TIGHT_THINK
    known = (None, ["<think>", "</think>"], ["<think>\n", "\n</think>\n\n"])
    assert where(lambda facts: facts["think_words"] not in known) == dialects.FOREIGN_THINK_WORDS
