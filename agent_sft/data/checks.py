"""Whether a conversation is one that LLaMA-Factory trains on as it was meant.

Its converter drops conversations whose roles do not alternate, and lets some through that make no sense: a
result with no call before it, a call that nothing answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from agent_sft.data.calls import check_calls
from agent_sft.data.dialects import Dialect
from agent_sft.data.turns import ANSWERS, FUNCTION_CALL, GPT, HUMAN, OBSERVATION, SYSTEM, Turn, Unusable

CALL_MARK = "<tool_call>"
"""What shows that a gpt turn calls a tool."""

CONTROL_TOKEN = re.compile(r"<\|(?:im_start|im_end|endoftext)\|>")

OTHER_METHODS = ("images", "videos", "audios", "chosen", "rejected", "kto_tag")
"""Columns that carry what supervised training on text would leave out."""


def check_columns(row: Mapping[str, Any]) -> None:
    """Refuse a row that holds more than text and one answer.

    Raises:
        Unusable: naming the column.
    """
    for column in OTHER_METHODS:
        value = row.get(column)
        if value is not None and value not in ("", [], {}):
            raise Unusable(f"the column '{column}' is filled: supervised training on text would leave it out")


def check_order(turns: Sequence[Turn]) -> None:
    """Refuse turns that do not follow one another as a conversation with tools does.

    What passes alternates between prompts (human, observation) and answers (gpt, function_call).

    Raises:
        Unusable: naming the turn.
    """
    if not turns:
        raise Unusable("no answer to a human turn is in it: nothing to train on")
    for turn in turns:
        if turn.role == SYSTEM:
            raise Unusable(f"{turn.label}: a system turn in the middle of the conversation")
    first = turns[0]
    if first.role in ANSWERS:
        raise Unusable(f"{first.label}: the conversation starts with a call of the agent")
    if first.role == OBSERVATION:
        raise Unusable(f"{first.label}: a tool result with no call before it")
    for before, turn in pairwise(turns):
        if (fault := _order_fault(before, turn)) is not None:
            raise Unusable(fault)
    if turns[-1].role not in ANSWERS:
        raise Unusable(f"{turns[-1].label}: the last turn is not the agent's")


def check_texts(turns: Sequence[Turn], dialect: Dialect) -> None:
    """Refuse texts that LLaMA-Factory cannot tokenise, or would change.

    Raises:
        Unusable: naming the turn.
    """
    for turn in turns:
        if turn.role == FUNCTION_CALL and (fault := check_calls(turn.text, dialect)) is not None:
            raise Unusable(f"{turn.label}: {fault}")
        if turn.role == HUMAN and "{{idx}}" in turn.text:
            raise Unusable(f"{turn.label}: LLaMA-Factory would write the turn's number in place of {{{{idx}}}}")


def notes_on(turns: Sequence[Turn]) -> Iterator[str]:
    """Yield what is worth knowing of a conversation that can be trained on."""
    if turns[-1].role == FUNCTION_CALL:
        yield "end with a tool call, which is trained on like any answer"
    if any(turn.role in ANSWERS and not turn.text.strip() for turn in turns):
        yield "have an empty turn of the agent, which teaches it to say nothing"
    if any(CONTROL_TOKEN.search(turn.text) for turn in turns):
        yield "have control tokens such as <|im_end|> in their text, which are read as the end of a turn"


def _order_fault(before: Turn, turn: Turn) -> str | None:
    if before.role == HUMAN:
        return f"{turn.label}: a tool result with no call before it" if turn.role == OBSERVATION else None
    if before.role == OBSERVATION:
        return f"{turn.label}: right after a tool result, with no answer of the agent" if turn.role == HUMAN else None
    if before.role == GPT:
        if turn.role == OBSERVATION and CALL_MARK not in before.text:
            return f"{turn.label}: a tool result, but {before.label} before it calls no tool"
        return None
    return f"{turn.label}: the call in turn {before.number} has no result" if turn.role != OBSERVATION else None
