"""ShareGPT rows, in both shapes that tool calls take there.

One has turns for calls and results (`function_call`, `observation`). The other writes a call into the assistant's
text, inside `<tool_call>`, and gives its result as the next human turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agent_sft.data.checks import OTHER_METHODS
from agent_sft.data.conversation import Conversation, Origin, Role, Turn
from agent_sft.data.hermes import OPEN, read_answer, read_call, read_calls, read_results, split_reasoning
from agent_sft.data.jsontext import loads
from agent_sft.data.reading import ROW_KEY, describe
from agent_sft.data.rows import MESSAGE_EXTRAS, TOOL_EXTRAS, read_tools
from agent_sft.data.turns import (
    FUNCTION_CALL,
    GPT,
    HUMAN,
    OBSERVATION,
    SUPERVISE_KEYS,
    SYSTEM,
    Unusable,
    supervise_flag,
)

NAME = "sharegpt"

ALIASES = {
    HUMAN: HUMAN,
    "user": HUMAN,
    GPT: GPT,
    "assistant": GPT,
    "model": GPT,
    "bot": GPT,
    "chatgpt": GPT,
    FUNCTION_CALL: FUNCTION_CALL,
    "tool_call": FUNCTION_CALL,
    OBSERVATION: OBSERVATION,
    "tool": OBSERVATION,
    "function": OBSERVATION,
    "function_response": OBSERVATION,
    "tool_response": OBSERVATION,
    SYSTEM: SYSTEM,
    "developer": SYSTEM,
}
"""What turns are called in files that are called ShareGPT, and the name that LLaMA-Factory knows."""

CANONICAL: dict[str, Role] = {
    HUMAN: "user",
    GPT: "assistant",
    FUNCTION_CALL: "assistant",
    OBSERVATION: "tool",
    SYSTEM: "system",
}

TURN_KEYS = frozenset(("from", "role", "value", "content", "tool_calls", *SUPERVISE_KEYS))


def recognise(row: Mapping[str, Any]) -> bool:
    """Tell whether a row is one."""
    return isinstance(row.get(ROW_KEY), list)


def read(row: Any, origin: Origin) -> Conversation:
    """Read a row.

    Raises:
        Unusable: naming the turn that cannot be used.
    """
    if not isinstance(row, dict):
        raise Unusable(f"the row is {describe(row)}, not an object")
    if ROW_KEY not in row:
        raise Unusable(f"the row has no '{ROW_KEY}'")
    given = row[ROW_KEY]
    if not isinstance(given, list):
        raise Unusable(f"'{ROW_KEY}' is {describe(given)}, not an array of turns")
    if not given:
        raise Unusable("the conversation has no turns")
    _refuse_other_methods(row)
    reader = _Reader(any(_role(turn) == OBSERVATION for turn in given))
    for number, turn in enumerate(given, start=1):
        reader.add(turn, number)
    turns = reader.turns
    leading = next((index for index, turn in enumerate(turns) if turn.role != "system"), len(turns))
    tools, tool_extras = _tools(row.get("tools"))
    metadata = {key: value for key, value in row.items() if key not in (ROW_KEY, "system", "tools")}
    if reader.extras:
        metadata[MESSAGE_EXTRAS] = reader.extras
    if tool_extras:
        metadata[TOOL_EXTRAS] = tool_extras
    return Conversation(
        turns=tuple(turns[leading:]),
        origin=origin,
        system=_system(row.get("system"), [turn.text or "" for turn in turns[:leading]]),
        tools=tools,
        metadata=metadata,
    )


class _Reader:
    """Turns one after another into canonical ones."""

    def __init__(self, has_observations: bool) -> None:
        self.turns: list[Turn] = []
        self.extras: dict[str, Any] = {}
        self._results_are_human = not has_observations

    def add(self, turn: Any, number: int) -> None:
        if self._add_plain(turn):
            return
        if not isinstance(turn, dict):
            raise Unusable(f"turn {number} is {describe(turn)}, not an object")
        if "from" not in turn and "role" not in turn:
            raise Unusable(f"turn {number} has no 'from'")
        role = _role(turn)
        if role is None:
            given = turn.get("from", turn.get("role"))
            shown = f"'{given}'" if isinstance(given, str) else describe(given)
            raise Unusable(f"turn {number} has an unknown role, {shown}: known are {', '.join(ALIASES)}")
        label = f"turn {number} ({role})"
        further = dict(_further(turn))
        made = list(self._read(turn, role, label, further))
        if further:
            self.extras[str(number)] = further
        self.turns += made

    def _add_plain(self, turn: Any) -> bool:
        """Add a turn of nothing but words, as most are; tell whether it is one."""
        if type(turn) is not dict or len(turn) != 2 or type(text := turn.get("value")) is not str:
            return False
        role = turn.get("from")
        if role == GPT and "<" not in text:
            self.turns.append(Turn(role="assistant", text=text))
        elif role == HUMAN and not self._answers_a_call():
            self.turns.append(Turn(role="user", text=text))
        else:
            return False
        return True

    def _read(self, turn: Mapping[str, Any], role: str, label: str, further: dict[str, Any]) -> Iterator[Turn]:
        text = turn["value"] if "value" in turn else turn.get("content")
        listed = turn.get("tool_calls") if role in (GPT, FUNCTION_CALL) else None
        if text is None and not listed:
            raise Unusable(f"{label}: its value is null, not a text" if "value" in turn else f"{label} has no 'value'")
        if text is not None and not isinstance(text, str):
            raise Unusable(f"{label}: its value is {describe(text)}, not a text")
        if role == OBSERVATION or (role == HUMAN and self._answers_a_call()):
            yield from (Turn(role="tool", text=result) for result in read_results(text or ""))
        elif role in (HUMAN, SYSTEM):
            yield Turn(role=CANONICAL[role], text=text)
        else:
            yield self._answer(turn, text or "", role, label, further)

    def _answer(self, turn: Mapping[str, Any], text: str, role: str, label: str, further: dict[str, Any]) -> Turn:
        words: str | None
        if role == FUNCTION_CALL and OPEN not in text and turn.get("tool_calls") is None:
            reasoning, rest = split_reasoning(text)
            found, extras = _calls_in_a_row(rest, label)
            words, calls = None, tuple(found)
        else:
            reasoning, words, calls, extras = read_answer(text, label)
            if turn.get("tool_calls"):
                listed = turn["tool_calls"]
                if calls or not isinstance(listed, list):
                    raise Unusable(f"{label}: 'tool_calls' beside calls in the text, or no list")
                read_listed = [read_call(call, label) for call in listed]
                calls, extras = tuple(call for call, _ in read_listed), [more for _, more in read_listed]
                words = words or None
            if role == FUNCTION_CALL and not calls:
                raise Unusable(f"{label}: no call in it")
        if any(extras):
            further["tool_calls"] = {str(place): more for place, more in enumerate(extras, start=1) if more}
        return Turn(
            role="assistant", text=words, reasoning=reasoning, calls=calls, supervise=supervise_flag(turn, label)
        )

    def _answers_a_call(self) -> bool:
        """Tell whether a human turn here is the result of a call: the first one after it is."""
        if not self._results_are_human or not self.turns:
            return False
        for results, turn in enumerate(reversed(self.turns)):
            if turn.role != "tool":
                return len(turn.calls) > results
        return False


def _calls_in_a_row(text: str, label: str) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return calls given as one JSON text, or as several that follow one another."""
    try:
        return read_calls(text, label)
    except Unusable:
        values, position = [], 0
        text = text.strip()
        while position < len(text):
            try:
                _, end = json.JSONDecoder().raw_decode(text, position)
            except (ValueError, RecursionError):
                break
            values.append(text[position:end])
            position = len(text) - len(text[end:].lstrip())
        if position < len(text) or len(values) < 2:
            raise
    read_values = [read_calls(value, label) for value in values]
    return [call for calls, _ in read_values for call in calls], [more for _, extras in read_values for more in extras]


def _role(turn: Any) -> str | None:
    """Return the turn's role by LLaMA-Factory's name; None where it is not known."""
    role = turn.get("from", turn.get("role")) if isinstance(turn, dict) else None
    return ALIASES.get(role) if isinstance(role, str) else None


def _further(turn: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((key, value) for key, value in turn.items() if key not in TURN_KEYS and value is not None)
    if "value" in turn and turn.get("content") not in (None, turn["value"]):
        yield "content", turn["content"]
    if "from" in turn and turn.get("role") not in (None, turn["from"]):
        yield "role", turn["role"]


def _system(column: Any, leading: list[str]) -> str:
    if column is not None and not isinstance(column, str):
        raise Unusable(f"'system' is {describe(column)}, not a text")
    turn = "\n\n".join(text for text in leading if text)
    if not column or not turn or column == turn:
        return column or turn
    return f"{column}\n\n{turn}"


def _tools(value: Any) -> tuple[tuple[Mapping[str, Any], ...], dict[str, Any]]:
    if not isinstance(value, str):
        return read_tools(value)
    if not value.strip():
        return (), {}
    try:
        return read_tools(loads(value))
    except ValueError as error:
        raise Unusable(f"'tools' is a text that is {error}") from error


def _refuse_other_methods(row: Mapping[str, Any]) -> None:
    for column in OTHER_METHODS:
        if row.get(column) not in (None, "", [], {}):
            raise Unusable(f"the column '{column}' is filled: supervised training on text would leave it out")
