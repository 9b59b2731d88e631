"""Which tool result answers which call: put in the order of the calls, whatever order they came in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from agent_sft.data.conversation import ToolCall, Turn
from agent_sft.data.turns import Unusable


def order_results(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Return the turns with the results after each calling turn in the order of its calls.

    Results and calls are matched by id where both have one.

    Raises:
        Unusable: a result answers no call of the turn before it, a call that has its result already, or comes
            without an id among several calls that have one; a call in the middle of the conversation has no result.
    """
    ordered: list[Turn] = []
    number = 1
    for is_result, group in groupby(turns, key=lambda turn: turn.role == "tool"):
        part = list(group)
        if is_result:
            calls = ordered[-1].calls if ordered else ()
            part = _match(part, calls, number, at_end=number + len(part) > len(turns))
        ordered += part
        number += len(part)
    return tuple(ordered)


def _match(results: list[Turn], calls: tuple[ToolCall, ...], number: int, *, at_end: bool) -> list[Turn]:
    if not calls:
        raise Unusable(f"turn {number} (tool): a tool result with no call before it")
    ids = [call.id for call in calls]
    if None in ids or len(set(ids)) != len(ids) or (len(calls) == 1 == len(results) and results[0].call_id is None):
        return results  # answered in order: there is nothing to match by
    found: dict[Any, Turn] = {}
    for offset, result in enumerate(results):
        label = f"turn {number + offset} (tool)"
        if result.call_id is None:
            raise Unusable(f"{label}: a result without an id, after calls that have one")
        if result.call_id not in ids:
            raise Unusable(f"{label}: answers the call '{result.call_id}', which is none of the turn before it")
        if result.call_id in found:
            raise Unusable(f"{label}: a second result of the call '{result.call_id}'")
        found[result.call_id] = result
    missing = [call for call in calls if call.id not in found]
    if missing and not at_end:
        raise Unusable(f"turn {number - 1} (assistant): the call '{missing[0].id}' ({missing[0].name}) has no result")
    return [found[call.id] for call in calls if call.id in found]
