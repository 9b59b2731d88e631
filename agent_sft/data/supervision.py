"""Which answers of a conversation carry loss.

LLaMA-Factory gives loss to all answers of a row, or with `mask_history` to the last one alone. So with the latter
every answer that is to carry loss becomes the last one of a row of its own, which repeats what came before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from agent_sft.data.checks import CALL_MARK
from agent_sft.data.turns import FUNCTION_CALL

Supervise = Literal["all_assistant", "last_assistant", "final_answer", "tool_calls"]

FLAG = "supervise"
"""Key of a turn in prepared data that says whether it carries loss, whatever the run says."""


def is_flagged(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether any turn of a prepared row says for itself whether it carries loss."""
    return any(turn.get(FLAG) is not None for turn in turns)


def supervised_pairs(turns: Sequence[Mapping[str, Any]], supervise: Supervise) -> list[int]:
    """Return the pairs, from 0, of a prompt and its answer whose answer carries loss.

    Args:
        turns: of a prepared row: prompts and answers in turn.
        supervise: `final_answer` is the last answer that calls no tool, `tool_calls` are all that do.
    """
    answers = turns[1::2]
    calls = [answer["from"] == FUNCTION_CALL or CALL_MARK in answer["value"] for answer in answers]
    final = max((number for number, called in enumerate(calls) if not called), default=None)
    chosen = {
        "all_assistant": range(len(answers)),
        "last_assistant": range(len(answers) - 1, len(answers)),
        "final_answer": () if final is None else (final,),
        "tool_calls": [number for number, called in enumerate(calls) if called],
    }[supervise]
    flags = [answer.get(FLAG) for answer in answers]
    return [number for number, flag in enumerate(flags) if flag or (flag is None and number in chosen)]
