"""OpenAI chat rows: `messages` and `tools`, as the API takes and gives them and as its fine-tuning files hold them.

All six roles are known: `developer` is a system message, `function` an old-style result and `function_call` an
old-style call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from msgspec.structs import replace

from agent_sft.data.conversation import Conversation, Origin
from agent_sft.data.hermes import split_reasoning
from agent_sft.data.jsontext import dumps
from agent_sft.data.reading import describe
from agent_sft.data.results import order_results
from agent_sft.data.rows import from_row, is_plain, to_row
from agent_sft.data.turns import Unusable

NAME = "openai"
LIFTED = ("response_format", "parallel_tool_calls")
"""What stands beside the messages in the API's own rows."""

REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
TEXTS = ("content", "reasoning_content")
EMPTY: tuple[Any, ...] = (None, "", [], {})


def recognise(row: Mapping[str, Any]) -> bool:
    """Tell whether a row is one: messages with roles, directly or in `input`."""
    messages = _messages(row)
    return isinstance(messages, list) and all(isinstance(one, Mapping) and "role" in one for one in messages)


def read(row: Any, origin: Origin) -> Conversation:
    """Read a row.

    Raises:
        Unusable: naming the message that cannot be used.
    """
    if not isinstance(row, Mapping):
        raise Unusable(f"the row is {describe(row)}, not an object")
    if "messages" not in row and isinstance(row.get("input"), Mapping):
        outer = {key: value for key, value in row.items() if key != "input"}
        row = {**row["input"], **outer}
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Unusable("the row has no messages")
    canonical = [_canonical(message, number) for number, message in enumerate(messages, start=1)]
    functions = row.get("functions")
    further = {}
    if functions is not None and row.get("tools") is None:
        further["tools"] = functions
        row = {key: value for key, value in row.items() if key != "functions"}
    read_row = {**{key: value for key, value in row.items() if value is not None}, **further, "messages": canonical}
    conversation = from_row(read_row, origin)
    return replace(conversation, turns=order_results(conversation.turns))


def write(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation as the API takes it: arguments as texts, every call with an id."""
    row = to_row(conversation)
    for message in row["messages"]:
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = dumps(call["function"]["arguments"])
        if message["role"] == "assistant" and "supervise" in message:
            message["weight"] = int(message.pop("supervise"))
    for key in LIFTED:
        if key in row.get("metadata", {}):
            row[key] = row["metadata"].pop(key)
    return row


def _messages(row: Mapping[str, Any]) -> Any:
    inner = row.get("input")
    return inner.get("messages") if "messages" not in row and isinstance(inner, Mapping) else row.get("messages")


def _canonical(message: Any, number: int) -> dict[str, Any]:
    """Return a message in the names that `from_row` knows."""
    if is_plain(message) and "<think>" not in message["content"]:
        return cast(dict[str, Any], message)
    if not isinstance(message, Mapping):
        raise Unusable(f"message {number} is {describe(message)}, not an object")
    made = dict(message)
    role = made.get("role")
    label = f"message {number} ({role})"
    made["role"] = {"developer": "system", "function": "tool"}.get(str(role), role)
    made["content"] = _content(made.get("content"), label)
    if made["role"] != "assistant":
        return {key: value for key, value in made.items() if key not in ("tool_calls", "function_call") or value}
    return _canonical_answer(made, label)


def _canonical_answer(made: dict[str, Any], label: str) -> dict[str, Any]:
    if (old := made.pop("function_call", None)) is not None:
        if made.get("tool_calls"):
            raise Unusable(f"{label}: both 'function_call' and 'tool_calls'")
        made["tool_calls"] = [{"type": "function", "function": old}]
    for key in REASONING_KEYS:
        value = made.get(key)
        if isinstance(value, str):
            made["reasoning_content"] = made.pop(key)
            break
    if made.get("reasoning_content") is None and isinstance(made["content"], str):
        reasoning, rest = split_reasoning(made["content"])
        if reasoning is not None:
            made |= {"reasoning_content": reasoning, "content": rest}
    if made.get("tool_calls") and made["content"] == "":
        made["content"] = None
    refusal = made.pop("refusal", None)
    if isinstance(refusal, str) and not made["content"]:
        made["content"] = refusal
    elif refusal:
        made["refusal"] = refusal
    weight = made.pop("weight", None)
    if weight is not None:
        if weight not in (0, 1):
            raise Unusable(f"{label}: the weight {weight} is neither 0 nor 1")
        made["supervise"] = bool(weight)
    # Empty audio, annotations and the like say nothing.
    return {key: value for key, value in made.items() if key in TEXTS or value not in EMPTY}


def _content(value: Any, label: str) -> Any:
    """Return a message's text, its parts joined."""
    if not isinstance(value, list):
        return value
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, Mapping) else describe(part)
        text = part.get("text", part.get("refusal")) if isinstance(part, Mapping) else part
        if not isinstance(text, str) or kind not in ("text", "input_text", "output_text", "refusal", "a text"):
            raise Unusable(f"{label}: a part of its content is no text ({kind})")
        texts.append(text)
    return "".join(texts)
