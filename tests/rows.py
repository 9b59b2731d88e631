"""Rows for tests of transforms, and running one over them."""

from __future__ import annotations

import json
from typing import Any

from agent_sft.data.transforms.contract import Outcome, Row
from agent_sft.data.transforms.registry import make_transform


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str | None, *calls: tuple[str, Any], **further: Any) -> dict[str, Any]:
    """An assistant's message; calls as pairs of a name and arguments, with the ids c1, c2, ..."""
    message: dict[str, Any] = {"role": "assistant", "content": text, **further}
    if calls:
        message["tool_calls"] = [
            {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for number, (name, arguments) in enumerate(calls, start=1)
        ]
    return message


def result(text: str, call: str | None = None) -> dict[str, Any]:
    message = {"role": "tool", "content": text}
    return message if call is None else {**message, "tool_call_id": call}


def chat(*messages: dict[str, Any], **further: Any) -> Row:
    return {"messages": list(messages), **further}


def hermes_call(name: str, arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"


def outcomes(kind: str, *rows: Row, **params: Any) -> list[Outcome]:
    """What a transform makes of rows."""
    transform = make_transform(kind, params, where="test")
    return [one if isinstance(one, Outcome) else Outcome(one) for one in transform(iter(rows))]


def changed(kind: str, row: Row, **params: Any) -> Row:
    """What a transform makes of one row, which it keeps."""
    (outcome,) = outcomes(kind, row, **params)
    assert outcome.fate == "kept", outcome.notes
    return outcome.row


def reason(kind: str, row: Row, **params: Any) -> str:
    """Why a transform rejects a row."""
    (outcome,) = outcomes(kind, row, **params)
    assert outcome.fate == "rejected"
    assert outcome.row == row
    return "; ".join(outcome.notes)
