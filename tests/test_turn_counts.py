"""Tokens that are counted without starting LLaMA-Factory are those that a training gets, template by template."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent_sft.data.preparing import prepare_dataset
from agent_sft.engines.llamafactory import encoding
from agent_sft.engines.llamafactory.encoding import EncodedRow, EncodingFacts, TurnCounts, counted_turns
from agent_sft.engines.llamafactory.tiny import make_tiny_model
from benchmarks.odd_conversations import make_case
from tests.support import conversations, engine_jobs, run_inside

pytestmark = pytest.mark.slow

TOOL = {"name": "get_line", "parameters": {"type": "object", "properties": {"id": {"type": "string", "default": "é"}}}}
CALL = '{"name":"get_line","arguments":{"id":"L\\u0031 \\"é\\"","deep":{"list":[1,2.50,null,true]}}}'
THOUGHT = "<think>\nThe line first.\n</think>\n\n"
ENOUGH, TIGHT = 12_000, 90
PACKED: dict[str, Any] = {"neat_packing": True}
"""Takes a token off the cutoff and leaves the counts alone."""

# Of the cases: the family of the tokenizer, then the settings.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen": ("qwen", {"template": "qwen"}),
    "qwen, another system text": ("qwen", {"template": "qwen", "default_system": "Be brief."}),
    "qwen, another tool format": ("qwen", {"template": "qwen", "tool_format": "llama3"}),
    "qwen, control tokens in texts are text": ("qwen", {"template": "qwen", "split_special_tokens": True}),
    "qwen, loss on prompts too": ("qwen", {"template": "qwen", "train_on_prompt": True}),
    "qwen3, thinking on": ("qwen", {"template": "qwen3", "enable_thinking": True}),
    "qwen3, thinking off": ("qwen", {"template": "qwen3", "enable_thinking": False}),
    "qwen3, thinking as it is": ("qwen", {"template": "qwen3", "enable_thinking": None}),
    "llama3": ("llama3", {"template": "llama3"}),
    "mistral": ("mistral", {"template": "mistral"}),
    "gemma": ("gemma", {"template": "gemma"}),
    "gemma2": ("gemma", {"template": "gemma2"}),
    "glm4": ("glm4", {"template": "glm4"}),
}


def row(*turns: tuple[str, str], system: str = "", tools: Any = "") -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": text} for role, text in turns], "system": system, "tools": tools}


def sample() -> list[dict[str, Any]]:
    """Calls, thoughts, system texts, tools, and texts that tokenizers take in odd ways."""
    tools = json.dumps([TOOL, {"type": "function", "function": {**TOOL, "name": "größe"}}], ensure_ascii=False)
    calling = [("human", "My line?"), ("function_call", CALL), ("observation", '{"state": "down"}'), ("gpt", "Down.")]
    thinking = [(role, THOUGHT + text if role in ("gpt", "function_call") else text) for role, text in calling]
    odd = [
        "\n\nHi  \n",
        " ",
        "É\u0301ﬁ½０",
        "🦉🏽\u200d\u00a0",
        "日本語の文 עברית",
        "<|im_end|></s><eos>[INST]",
        "▁_▁",
        "{{idx}}",
    ]
    rows = [
        row(*calling, system="You help with lines.", tools=tools),
        row(*thinking, system="You help with lines.", tools=tools),
        row(*calling, *calling, tools=tools),
        row(("human", "Both?"), ("function_call", f"[{CALL}, {CALL}]"), ("observation", "1"), ("gpt", "Both.")),
        row(("human", "Hm?"), ("gpt", f"{THOUGHT}Hi."), ("human", "And?"), ("gpt", "<think>x</think>No.")),
        *(row(("human", text), ("gpt", f"{text}\n"), ("human", f"\n{text}"), ("gpt", "")) for text in odd),
        *conversations(),
    ]
    chance = Random(7)
    cases = [case.row for case in (make_case(chance) for _ in range(400)) if case.form == "sharegpt"]
    return rows + [case for case in cases if len(json.dumps(case)) < 20_000 and "\\ud" not in json.dumps(case)]


@dataclass(frozen=True)
class Found:
    """What each way gives for the same rows."""

    light: tuple[EncodingFacts, list[TurnCounts]]
    """Counted without LLaMA-Factory."""
    facts: dict[str, Any]
    """What LLaMA-Factory says of the settings."""
    started: list[TurnCounts]
    """Counted by LLaMA-Factory."""
    shown: list[EncodedRow]
    """As previews show them."""
    cut: list[EncodedRow]
    """The same at a cutoff that hardly any row fits in."""
    loaded: dict[str, list[list[int]]]
    """What a training loads."""
    loaded_cut: dict[str, list[list[int]]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, train_python: Path) -> dict[str, Found]:
    """Everything, for all cases; LLaMA-Factory is started once."""
    place = tmp_path_factory.mktemp("counts")
    source = place / "rows.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in sample()), encoding="utf-8")
    texts = [turn["value"] for row in conversations() for turn in row["conversations"]]
    models = place / "models"
    run_inside(train_python, "make_tokenizers.py", {"folder": str(models), "texts": texts}, place)
    jobs: list[dict[str, Any]] = []
    chosen: dict[str, dict[str, Any]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent_sft.engines.cache.cache_home", lambda: place / "cache")
        for number, (name, (family, given)) in enumerate(CASES.items()):
            folder = place / f"data{number}"
            report = prepare_dataset(source, name="d", folder=folder, template=given["template"])
            if family == "qwen" and not (models / "qwen").exists():
                make_tiny_model(train_python, report.data_path, models / "qwen", seed=1)
            settings = {**given, "model_name_or_path": str(models / family), "cutoff_len": ENOUGH}
            chosen[name] = settings
            ways: tuple[tuple[str, int, dict[str, Any]], ...] = (
                ("counts", ENOUGH, PACKED),
                ("tokens", ENOUGH, {}),
                ("tokens", TIGHT, {}),
            )
            for what, cutoff, more in ways:
                output = place / f"{number}-{what}-{cutoff}"
                output.mkdir()
                asked = encoding._order(folder, "d", {**settings, "cutoff_len": cutoff, **more}, what, None, output)
                jobs.append({"program": str(encoding.ENCODE), "order": asked})
            loading = settings | {"dataset": "d", "dataset_dir": str(folder)}
            jobs += [{"load": loading}, {"load": loading | {"cutoff_len": TIGHT}}]
        answers = engine_jobs(train_python, jobs, place)
        every: dict[str, Found] = {}
        for number, (name, settings) in enumerate(chosen.items()):
            lines = [
                [json.loads(line) for line in (place / f"{number}-{output}" / "rows.jsonl").read_bytes().splitlines()]
                for output in (f"counts-{ENOUGH}", f"tokens-{ENOUGH}", f"tokens-{TIGHT}")
            ]
            with counted_turns(train_python, place / f"data{number}", "d", settings | PACKED) as (facts, counted):
                every[name] = Found(
                    (facts, list(counted)),
                    answers[5 * number],
                    [encoding._counted(line, facts, bool(settings.get("train_on_prompt"))) for line in lines[0]],
                    [encoding._encoded(line) for line in lines[1]],
                    [encoding._encoded(line) for line in lines[2]],
                    answers[5 * number + 3],
                    answers[5 * number + 4],
                )
    return every


@pytest.mark.parametrize("name", CASES)
def test_counting_without_the_engine_gives_what_the_engine_gives(name: str, found: dict[str, Found]) -> None:
    facts, counted = found[name].light
    assert not facts.started
    assert counted == found[name].started
    assert facts.rows == len(counted) > 80
    engine = {"rows": facts.rows, "cutoff": facts.cutoff, "efficient_eos": facts.efficient_eos}
    assert engine == {key: found[name].facts[key] for key in engine}
    assert facts.cutoff == ENOUGH - 1


@pytest.mark.parametrize("name", CASES)
def test_what_is_counted_is_what_a_training_loads(name: str, found: dict[str, Found]) -> None:
    _, counted = found[name].light
    loaded = found[name].loaded
    assert [row.error for row in counted if row.error] == []
    assert [row.total for row in counted] == [len(ids) for ids in loaded["ids"]]
    with_loss = [sum(label >= 0 for label in labels) for labels in loaded["labels"]]
    assert [row.loss_tokens for row in counted] == with_loss


@pytest.mark.parametrize("name", CASES)
def test_what_is_shown_is_what_a_training_loads(name: str, found: dict[str, Found]) -> None:
    one = found[name]
    for shown, loaded in ((one.shown, one.loaded), (one.cut, one.loaded_cut)):
        assert [list(row.ids) for row in shown] == loaded["ids"]
        assert [list(row.labels) for row in shown] == loaded["labels"]
    assert one.loaded_cut["ids"] != one.loaded["ids"]
