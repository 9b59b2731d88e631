"""Samples of Inspect's logs, from `.eval` files and from logs in JSON.

A row is one sample with what was evaluated: `{"sample": {...}, "eval": {...}}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_sft.data.conversation import Conversation, Origin
from agent_sft.data.formats import openai
from agent_sft.data.reading import describe
from agent_sft.data.turns import Unusable

NAME = "inspect"
GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""Inspect's letters (correct, partial, incorrect, no answer) as it turns them into numbers itself."""

ATTACHMENT = "attachment://"
LEFT_OUT = frozenset(("messages", "events", "attachments", "output", "store", "scores", "metadata"))
"""Of a sample, what the metadata does not take over under its own name: texts told again, logs, states."""

MESSAGE_KEYS = ("role", "content", "tool_calls", "tool_call_id", "function", "error", "id", "source", "model")


def recognise(row: Mapping[str, Any]) -> bool:
    """Tell whether a row is a sample of a log."""
    sample = row.get("sample")
    return isinstance(sample, Mapping) and "messages" in sample and "epoch" in sample


def read(row: Any, origin: Origin) -> Conversation:
    """Read a sample; `reward` in the metadata is its score, the first where there are several.

    Tools are not part of a log's samples: those that the model was given first are taken from its events.

    Raises:
        Unusable: naming what cannot be used.
    """
    sample = row.get("sample") if isinstance(row, Mapping) else None
    if not isinstance(sample, Mapping) or not isinstance(sample.get("messages"), list):
        raise Unusable("the sample has no messages")
    if not sample["messages"]:
        raise Unusable("the sample has no messages" + (": it ended with an error" if sample.get("error") else ""))
    attachments = sample.get("attachments") or {}
    messages = [_message(message, number, attachments) for number, message in enumerate(sample["messages"], start=1)]
    metadata = {key: value for key, value in sample.items() if key not in LEFT_OUT and value is not None}
    metadata["sample_id"] = metadata.pop("id", None)
    if isinstance(sample.get("metadata"), Mapping) and sample["metadata"]:
        metadata["sample_metadata"] = sample["metadata"]
    scores = sample.get("scores") or {}
    if scores:
        metadata["scores"] = scores
    reward = next((value for score in scores.values() if (value := _number(score)) is not None), None)
    if reward is not None:
        metadata["reward"] = reward
    about = row.get("eval")
    if isinstance(about, Mapping):
        metadata |= {key: about[key] for key in ("task", "model", "run_id") if about.get(key)}
    made: dict[str, Any] = {"messages": messages, "metadata": metadata}
    if tools := _tools(sample.get("events")):
        made["tools"] = tools
    return openai.read(made, origin)


def _message(message: Any, number: int, attachments: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise Unusable(f"message {number} is {describe(message)}, not an object")
    label = f"message {number} ({message.get('role')})"
    text, reasoning = _content(message.get("content"), label, attachments)
    made = {key: value for key, value in message.items() if key not in MESSAGE_KEYS and value not in (None, {}, [])}
    made |= {"role": message.get("role"), "content": text}
    if reasoning is not None:
        made["reasoning_content"] = reasoning
    if message.get("tool_calls"):
        made["tool_calls"] = [_call(call, label, attachments) for call in message["tool_calls"]]
    if message.get("role") == "tool":
        made |= {"tool_call_id": message.get("tool_call_id"), "name": message.get("function")}
        error = message.get("error")
        if error and not text:
            made["content"] = str(error.get("message", "")) if isinstance(error, Mapping) else str(error)
    return made


def _content(value: Any, label: str, attachments: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the text and the reasoning of a message, its parts joined."""
    texts, thoughts = [], []
    for part in value if isinstance(value, list) else [{"type": "text", "text": value}]:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(_attached(part["text"], attachments, label))
        elif kind == "reasoning" and not part.get("redacted") and isinstance(part.get("reasoning"), str):
            thoughts.append(_attached(part["reasoning"], attachments, label))
        elif kind != "reasoning":
            raise Unusable(f"{label}: a part of its content is no text ({kind or describe(part)})")
    return "".join(texts), "\n".join(thoughts) if thoughts else None


def _attached(text: str, attachments: Mapping[str, Any], label: str) -> str:
    """Return a text, fetched from the sample's attachments where the log keeps it there."""
    if not text.startswith(ATTACHMENT):
        return text
    found = attachments.get(text.removeprefix(ATTACHMENT))
    if not isinstance(found, str):
        raise Unusable(f"{label}: its text is an attachment that the log does not have")
    return found


def _call(call: Any, label: str, attachments: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(call, Mapping) or not isinstance(call.get("function"), str):
        raise Unusable(f"{label}: a tool call without a name")
    if call.get("parse_error"):
        raise Unusable(f"{label}: the call of '{call['function']}' could not be parsed: {call['parse_error']}")
    arguments = call.get("arguments")
    if isinstance(arguments, Mapping):
        arguments = {
            key: _attached(value, attachments, label) if isinstance(value, str) else value
            for key, value in arguments.items()
        }
    function = {"name": call["function"], "arguments": arguments}
    return {"id": call.get("id"), "type": "function", "function": function}


def _number(score: Any) -> float | None:
    value = score.get("value") if isinstance(score, Mapping) else score
    if isinstance(value, str):
        return GRADES.get(value)
    return float(value) if isinstance(value, int | float) else None


def _tools(events: Any) -> list[Any]:
    for event in events if isinstance(events, list) else ():
        if isinstance(event, Mapping) and event.get("event") == "model" and event.get("tools"):
            return [
                {key: tool.get(key) for key in ("name", "description", "parameters")}
                for tool in event["tools"]
                if isinstance(tool, Mapping)
            ]
    return []
