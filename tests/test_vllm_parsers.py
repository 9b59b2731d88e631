"""The parser of tool calls follows from the chat template, not from the model's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sft.engines.vllm.parsers import renders_tools, tool_parser

KNOWN = ("hermes", "mistral", "llama3_json", "qwen3_xml", "glm45", "seed_oss", "minimax_m2", "lfm2", "gemma4")


@pytest.mark.parametrize(
    ("name", "parser"), [("qwen", "hermes"), ("qwen3", "hermes"), ("mistral", "mistral"), ("llama3_1", "llama3_json")]
)
def test_chat_templates_of_known_families(repo: Path, name: str, parser: str) -> None:
    text = (repo / "tests" / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    assert renders_tools(text)
    assert tool_parser(text, KNOWN) == parser


def test_a_template_that_leaves_tools_out(repo: Path) -> None:
    text = (repo / "tests" / "chat_templates" / "llama3.jinja").read_text(encoding="utf-8")
    assert not renders_tools(text)
    assert tool_parser(text, KNOWN) is None


@pytest.mark.parametrize(
    ("written", "parser"),
    [
        ("<tool_call>\\n<function=' + name + '>\\n<parameter=' + key", "qwen3_xml"),
        ("<tool_call>' + name + '\\n<arg_key>' + key", "glm45"),
        ("<seed:tool_call>\\n<function=' + name + '>\\n<parameter=' + key", "seed_oss"),
        ("<minimax:tool_call>\\n<invoke name=", "minimax_m2"),
        ("<|tool_call_start|>[' + name", "lfm2"),
        ("<|tool_call>call:' + name", "gemma4"),
        ('<tool_call>\\n{"name": ', "hermes"),
    ],
)
def test_the_particular_form_wins_over_the_general_one(written: str, parser: str) -> None:
    assert tool_parser(f"{{% if tools %}}{{{{ tools }}}}{{% endif %}}{{{{ '{written}' }}}}", KNOWN) == parser


def test_a_parser_that_this_vllm_lacks_is_not_chosen() -> None:
    assert tool_parser("<tool_call>", ("mistral",)) is None


@pytest.mark.parametrize("text", ["{{ messages }} tools", "{# tools #}", "{% if toolset %}{% endif %}"])
def test_the_word_alone_renders_nothing(text: str) -> None:
    assert not renders_tools(text)
