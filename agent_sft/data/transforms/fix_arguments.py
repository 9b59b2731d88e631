"""Arguments of calls that were recorded as text become the object that the text holds."""

from __future__ import annotations

import json
from typing import Any

from agent_sft.data.known import are_unpacked
from agent_sft.data.transforms.chat import Call, change_all_calls, messages_of, shown, with_messages
from agent_sft.data.transforms.contract import Outcome, Row, RowTransform, noted
from agent_sft.data.transforms.registry import register_transform
from agent_sft.data.turns import Unusable

DEEPEST = 3
"""How often a text may have been put into a text: tools that log what they log do it twice."""


@register_transform("fix_arguments")
class FixArguments(RowTransform):
    """Unpacks arguments; a call whose arguments are no object in any way is a reject, never an empty call."""

    name = "fix_arguments"
    row_by_row = True

    def change(self, row: Row) -> Row | Outcome:
        """Return the row with all arguments as objects, each unpacking noted."""
        fixed, notes = fix_arguments(row)
        return noted(fixed, *notes) if notes else row


def fix_arguments(row: Row) -> tuple[Row, list[str]]:
    """Return the row with the arguments of every call as an object, and what was done.

    Raises:
        Unusable: arguments are no object, nor a text of one.
    """
    given = messages_of(row)
    if are_unpacked(given):
        return row, []
    notes: list[str] = []

    def fix(call: Call) -> dict[str, Any]:
        value = call.value
        if "arguments" not in value and "parameters" in value:
            # Some agents record calls in the words of the tool's own description.
            value = {("arguments" if key == "parameters" else key): item for key, item in value.items()}
            notes.append(f"turn {call.turn}: 'parameters' of '{call.name}' are its arguments")
        if "arguments" not in value:
            raise Unusable(f"turn {call.turn}: the call of '{call.name}' has no arguments")
        arguments = unpack(value["arguments"])
        if not isinstance(arguments, dict):
            given = shown(value["arguments"])
            raise Unusable(f"turn {call.turn}: the arguments of '{call.name}' are no object: {given}")
        if arguments is value["arguments"]:
            return value
        notes.append(f"turn {call.turn}: unpacked the arguments of '{call.name}'")
        return {**value, "arguments": arguments}

    messages = change_all_calls(given, fix)
    return with_messages(row, messages), notes


def unpack(arguments: Any) -> Any:
    """Return what a text of JSON holds, however often it was put into a text; anything else as it is.

    An empty text stands for a call without arguments: that is how the API writes one.
    """
    if isinstance(arguments, str) and not arguments.strip():
        return {}
    value = arguments
    for _ in range(DEEPEST):
        if not isinstance(value, str):
            return value
        try:
            value = json.loads(value, object_pairs_hook=_distinct, parse_constant=_no_number)
        except (ValueError, RecursionError):
            return arguments
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice: which one was meant cannot be told")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
