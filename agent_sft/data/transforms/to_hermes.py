"""Calls and results as the text that the Hermes family of templates (qwen among them) writes for them."""

from __future__ import annotations

from typing import Any

from agent_sft.data.transforms.chat import Call, Message, calls_in, hermes, messages_of, shown, with_messages
from agent_sft.data.transforms.contract import Row, RowTransform
from agent_sft.data.transforms.registry import register_transform
from agent_sft.data.turns import Unusable

RESULT = "<tool_response>\n{}\n</tool_response>"


@register_transform("to_hermes")
class ToHermes(RowTransform):
    """Writes calls into the assistant's words and results into user turns, as they are rendered when served."""

    name = "to_hermes"
    row_by_row = True

    def change(self, row: Row) -> Row:
        """Return the row without `tool_calls` and `tool` messages."""
        return to_hermes(row)


def to_hermes(row: Row) -> Row:
    """Return the row with each call as a <tool_call> block and results in <tool_response>, in the order of calls.

    Raises:
        Unusable: a call has no name or no object of arguments, or a result answers no call.
    """
    messages: list[Message] = []
    results: list[tuple[int, Message]] = []
    calls: list[Any] = []  # ids of the calls that the next results answer
    for turn, message in enumerate(messages_of(row), start=1):
        if message["role"] == "tool":
            results.append((turn, message))
            continue
        if results:
            messages.append(_answer(results, calls))
            results, calls = [], []
        if message.get("tool_calls"):
            calls = [entry.get("id") for entry in message["tool_calls"] if isinstance(entry, dict)]
            message = _speak(message, turn)
        messages.append(message)
    if results:
        messages.append(_answer(results, calls))
    return with_messages(row, messages)


def _speak(message: Message, turn: int) -> Message:
    blocks = [hermes([_plain(call)]) for call in calls_in({**message, "content": None}, turn)]
    words = message.get("content") or ""
    text = "\n".join([words, *blocks] if words.strip() else blocks)
    return {**{key: value for key, value in message.items() if key != "tool_calls"}, "content": text}


def _plain(call: Call) -> dict[str, Any]:
    arguments = call.value.get("arguments")
    if not isinstance(arguments, dict):
        raise Unusable(
            f"turn {call.turn}: the arguments of '{call.name}' are no object:"
            f" {shown(arguments)}; fix_arguments mends texts"
        )
    return {"name": call.name, "arguments": arguments}


def _answer(results: list[tuple[int, Message]], calls: list[Any]) -> Message:
    """Return one user turn for results in a row: text has no ids, so their order must be that of the calls."""
    ids = [message.get("tool_call_id") for _, message in results]
    if all(ids) and all(calls) and len(calls) > 0:
        for (turn, _), found in zip(results, ids, strict=True):
            if found not in calls:
                raise Unusable(f"turn {turn}: a result for the call '{shown(found)}', which was not made")
        if len(set(ids)) != len(ids):
            raise Unusable(f"turn {results[0][0]}: two results for the same call")
        results = sorted(results, key=lambda result: calls.index(result[1].get("tool_call_id")))
    texts = [RESULT.format(message.get("content") or "") for _, message in results]
    return {"role": "user", "content": "\n".join(texts)}
