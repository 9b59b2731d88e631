"""What is said of vLLM holds for the one that is installed."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest

from agent_sft.engines.environments import call_inside, engine_versions
from agent_sft.engines.llamafactory.launch import SHARED as LLAMAFACTORY
from agent_sft.engines.vllm.facts import DISTRIBUTIONS, OURS, Facts, load_facts, with_underscores
from agent_sft.engines.vllm.flags import RANKS, lora_flags
from agent_sft.engines.vllm.launch import SHARED as VLLM
from agent_sft.engines.vllm.launch import serving_environment
from agent_sft.engines.vllm.parsers import MARKS
from agent_sft.errors import UserError
from tests.serving import TOOL

pytestmark = pytest.mark.slow

PARSERS = {
    "qwen": "hermes",
    "qwen3_5": "qwen3_xml",
    "llama3": "llama3_json",
    "mistral": "mistral",
    "glm4_moe": "glm45",
    "lfm2": "lfm2",
    "minimax2": "minimax_m2",
}
"""LLaMA-Factory's templates and the parsers for the calls that models of theirs are trained to write."""


@pytest.fixture(scope="module")
def facts(serve_python: Path) -> Facts:
    return load_facts(serve_python, engine_versions(serve_python, DISTRIBUTIONS))


def test_the_parsers_and_arguments_that_are_chosen_exist(facts: Facts) -> None:
    assert {parser for _, parser in MARKS} <= set(facts.tool_parsers)
    assert set(OURS) <= set(facts.arguments)
    assert (facts.arguments["enable_lora"], facts.arguments["lora_modules"]) == ("flag", "list")
    assert set(lora_flags([], 8)) <= set(facts.arguments)
    assert RANKS[-1] == 512


def test_an_unknown_argument_names_the_nearest(facts: Facts) -> None:
    with pytest.raises(UserError, match="did you mean 'gpu_memory_utilization'"):
        facts.check(with_underscores({"--gpu-memory-utilisation": 0.5}))
    facts.check(with_underscores({"--gpu-memory-utilization": 0.5, "enforce-eager": True}))


def test_calls_are_read_as_models_are_trained_to_write_them(
    full_run: Path, train_python: Path, serve_python: Path
) -> None:
    inside = Path(__file__).parent / "inside"
    order = {"templates": list(PARSERS), "name": "get_plan", "arguments": {"line": "L1"}}
    written = call_inside(train_python, inside / "write_calls.py", payload=order, started=LLAMAFACTORY.forked)
    texts = {PARSERS[template]: text for template, text in written.items()}
    payload = {"tokenizer": str(full_run), "tools": [TOOL], "texts": texts}
    with mock.patch.dict(os.environ, serving_environment("", local=True, on_gpu=False)):
        read = call_inside(serve_python, inside / "read_calls.py", payload=payload, started=VLLM.forked)
    assert read == {parser: [["get_plan", {"line": "L1"}]] for parser in texts}
