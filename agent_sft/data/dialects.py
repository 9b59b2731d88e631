"""What a chat template can carry, as far as the data has to care.

The sets name LLaMA-Factory 0.9.5's templates; a test compares them with its own registry. A template that is in
none of them is taken to carry the least, so that what is accepted here can be trained on there.
"""

from __future__ import annotations

from dataclasses import dataclass

RESULT_JOINT = "\n</tool_response>\n<tool_response>\n"
"""Between two results in one observation turn, where the template wraps it in <tool_response>."""

QWEN_TOOLS = frozenset(
    (
        "keye_vl",
        "mimo",
        "mimo_vl",
        "mimo_v2",
        "qwen",
        "qwen3",
        "qwen3_nothink",
        "qwen2_omni",
        "qwen3_omni",
        "qwen3_omni_nothink",
        "qwen2_vl",
        "qwen3_vl",
        "qwen3_vl_nothink",
        "llava_next_qwen",
    )
)
"""Tool format `qwen`: Hermes style <tool_call> blocks."""

WRAPS_RESULTS = QWEN_TOOLS | {"bailing_v2", "qwen3_5", "qwen3_5_nothink", "qwen3_6", "youtu"}
"""Put an observation inside <tool_response>: several results fit into one turn."""

DESCRIBED_TOOLS_ONLY = QWEN_TOOLS | {"bailing_v2", "qwen3_5", "qwen3_5_nothink", "qwen3_6"}
"""Show a tool's description as it is, whatever is in it."""

SINGLE_CALL = frozenset(("chatglm3", "glm4", "glm4v", "glm_ocr", "glmz1"))
"""Cannot render several calls in one turn."""

BARE_CALLS_ONLY = frozenset(
    (
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3n",
        "llama2",
        "llama2_zh",
        "paligemma",
        "paligemma_chat",
        "llava_next_mistral",
        "llava_next_video_mistral",
        "ministral",
        "ministral3",
        "mistral",
        "pixtral",
    )
)
"""Fold the system text into the first turn, and take nothing but JSON in a function_call turn."""

FOREIGN_CALL_WORDS = frozenset(("lfm2", "lfm2_vl"))
"""Have another word than <tool_call> around a call that follows prose."""

FOREIGN_THINK_WORDS = frozenset(("gemma4", "gemma4n", "gpt_oss", "kimi_vl", "seed_oss"))
"""Have other words than <think> around reasoning."""

TIGHT_THINK = frozenset(("aeva", "glm4_7", "hy3", "mimo_v2"))
"""Find <think>…</think> whatever the line breaks around it."""

NAMED = frozenset.union(
    QWEN_TOOLS,
    WRAPS_RESULTS,
    DESCRIBED_TOOLS_ONLY,
    SINGLE_CALL,
    BARE_CALLS_ONLY,
    FOREIGN_CALL_WORDS,
    FOREIGN_THINK_WORDS,
    TIGHT_THINK,
)
"""Templates that are named here; there are others."""


@dataclass(frozen=True)
class Dialect:
    """What one chat template can carry."""

    template: str
    joins_results: bool
    """Several tool results fit into one observation turn."""
    prose_before_call: bool
    """A function_call turn can hold words before <tool_call>."""
    think_before_call: bool
    """A function_call turn can hold <think>…</think> before its JSON."""
    tight_think: bool
    """The line breaks around <think> do not matter."""
    parallel_calls: bool
    """A function_call turn can hold a list of calls."""
    any_tool_schema: bool
    """A tool needs no parameters.properties."""
    hermes_text: bool
    """Calls written as text in the agent's turn are rendered as they are when served."""


def dialect_of(template: str) -> Dialect:
    """Return what a template can carry; the least where it is not known."""
    bare = template in BARE_CALLS_ONLY
    return Dialect(
        template=template,
        joins_results=template in WRAPS_RESULTS,
        prose_before_call=not bare and template not in FOREIGN_CALL_WORDS,
        think_before_call=not bare and template not in FOREIGN_THINK_WORDS,
        tight_think=template in TIGHT_THINK,
        parallel_calls=template not in SINGLE_CALL,
        any_tool_schema=template in DESCRIBED_TOOLS_ONLY,
        hermes_text=template in QWEN_TOOLS,
    )
