"""Which of vLLM's parsers reads the calls that a chat template has a model write."""

from __future__ import annotations

import re
from collections.abc import Collection

MARKS: tuple[tuple[str, str], ...] = (
    (r"<minimax:tool_call>", "minimax_m2"),
    (r"<seed:tool_call>", "seed_oss"),
    (r"<arg_key>", "glm45"),
    (r"<function=[\s\S]*<parameter=", "qwen3_xml"),
    (r"<｜tool▁call▁begin｜>[\s\S]*```json", "deepseek_v3"),
    (r"<｜tool▁call▁begin｜>", "deepseek_v31"),
    (r"<\|tool_call_begin\|>", "kimi_k2"),
    (r"<\|tool_call_start\|>", "lfm2"),
    (r"<\|tool_call>", "gemma4"),
    (r"\[TOOL_CALLS\]", "mistral"),
    (r"<\|action_start\|>", "internlm"),
    (r"<\|channel\|>commentary", "openai"),
    (r"<tool_call>", "hermes"),
    (r"<tool_calls>", "jamba"),
    (r'<\|python_tag\|>|"name": ?"[\s\S]{0,80}"parameters": ?', "llama3_json"),
)
"""What a chat template writes around a call, the particular before the general: several have <tool_call>."""


def renders_tools(chat_template: str) -> bool:
    """Tell whether a chat template writes the tools of a request into the prompt."""
    return re.search(r"\{[%{][^}]*\btools\b", chat_template) is not None


def tool_parser(chat_template: str, known: Collection[str]) -> str | None:
    """Return the name of the parser for the calls of a chat template; None where there is none.

    Args:
        chat_template: its text.
        known: the parsers that this vLLM has.
    """
    found = (parser for mark, parser in MARKS if re.search(mark, chat_template))
    return next((parser for parser in found if parser in known), None)
