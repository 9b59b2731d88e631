"""Synthetic tool conversations of wanted lengths, for measuring speed: the text means nothing."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

WORD = re.compile(r"[A-Za-z]+|\d|[^\w\s]+|\n")
"""About one token of a tokenizer that was trained on these texts."""

SYLLABLES = ("ba", "co", "di", "fer", "gon", "hal", "im", "jo", "kel", "lu", "mor", "na", "pel", "qui", "ras", "tov")
POLICY_SHARE = 0.25
"""Share of a conversation that its system prompt takes, as a policy with rules does."""


def make_conversations(count: int, shortest: int, longest: int, seed: int) -> Iterator[dict[str, Any]]:
    """Make conversations with calls and results whose lengths spread evenly from shortest to longest.

    Args:
        count: how many.
        shortest: tokens of the shortest, about.
        longest: tokens of the longest, about.
        seed: of everything that is drawn.

    Yields:
        Rows in ShareGPT form: conversations, system, tools.
    """
    draw = random.Random(seed)
    words = sorted({"".join(draw.choices(SYLLABLES, k=draw.randint(1, 3))) for _ in range(400)})
    steps = max(1, count - 1)
    lengths = [shortest + round((longest - shortest) * place / steps) for place in range(count)]
    draw.shuffle(lengths)
    tools = json.dumps([_tool(name) for name in words[:3]])
    for length in lengths:
        yield _conversation(draw, words, tools, length)


def about_tokens(text: str) -> int:
    """Return about how many tokens a text has."""
    return sum(1 for _ in WORD.finditer(text))


def _conversation(draw: random.Random, words: list[str], tools: str, length: int) -> dict[str, Any]:
    def prose(size: int) -> str:
        return " ".join(draw.choices(words, k=max(1, size))) + "."

    fixed = about_tokens(tools) + 110  # the frame that the template writes around tools
    system = prose(round((length - fixed) * POLICY_SHARE))
    left = length - fixed - about_tokens(system)
    turns: list[dict[str, str]] = []
    while left > 0 or not turns:
        round_size = max(12, min(left, draw.randint(60, 400)))
        call = {"name": draw.choice(words[:3]), "arguments": {"subject": prose(2), "number": draw.randint(10, 99)}}
        result = {word: draw.randint(100, 999) for word in draw.sample(words, k=max(1, round_size // 40))}
        made = [
            {"from": "human", "value": prose(round_size // 4)},
            {"from": "function_call", "value": json.dumps(call)},
            {"from": "observation", "value": json.dumps(result)},
            {"from": "gpt", "value": prose(round_size // 4)},
        ]
        turns += made
        left -= sum(about_tokens(turn["value"]) + 5 for turn in made) + 12
    return {"conversations": turns, "system": system, "tools": tools}


def _tool(name: str) -> dict[str, Any]:
    fields = {"subject": {"type": "string"}, "number": {"type": "integer"}}
    return {"name": name, "description": f"Look up {name}.", "parameters": {"type": "object", "properties": fields}}
