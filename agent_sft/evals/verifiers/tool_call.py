"""`tool_call`: the answer calls the right tools with the right arguments."""

from __future__ import annotations

import re
from typing import Any

import orjson
from pydantic import BaseModel

from agent_sft.evals.verifiers import contract
from agent_sft.evals.verifiers.contract import ACCEPTED, Answer, Call, Verdict, Verifier, excerpt, rejected
from agent_sft.evals.verifiers.registry import register_verifier
from agent_sft.evals.verifiers.texts import equal, first_difference

_BLOCK = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)


class ExpectedCall(BaseModel, extra="forbid"):
    """A call that is expected."""

    name: str
    arguments: dict[str, Any] | None = None
    """None accepts any."""


@register_verifier("tool_call")
class ToolCall(Verifier):
    """Accepts an answer that makes the expected calls, in any order, and no others. None are expected of `[]`.

    Where the answer has no calls of its own, `<tool_call>` blocks in its text are read: a server that was given no
    tools leaves them there.
    """

    class Config(contract.Config):
        """Its parameters."""

        expected: ExpectedCall | list[ExpectedCall]
        ordered: bool = False
        """The calls come in the order given."""
        allow_others: bool = False
        """Further calls do no harm."""

    def verify(self, answer: Answer) -> Verdict:
        """Return whether the calls are right."""
        config = self.config
        expected = config.expected if isinstance(config.expected, list) else [config.expected]
        left = list(answer.calls or calls_in(answer.text))
        for wanted in expected:
            place = next((index for index, call in enumerate(left) if _is(call, wanted)), None)
            if place is None:
                return rejected(_lacking(left, wanted))
            if config.ordered:
                if place and not config.allow_others:
                    return rejected(f"calls {left[0].name} before {wanted.name}")
                del left[: place + 1]
            else:
                del left[place]
        if left and not config.allow_others:
            return rejected(f"also calls {left[0].name} with {excerpt(left[0].arguments)}")
        return ACCEPTED


def calls_in(text: str) -> list[Call]:
    """Return the calls that stand in a text as `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`."""
    found = []
    for block in _BLOCK.findall(text):
        try:
            call = orjson.loads(block)
        except orjson.JSONDecodeError:
            call = None
        if isinstance(call, dict) and isinstance(call.get("name"), str):
            found.append(Call(call["name"], call.get("arguments", {})))
        else:
            found.append(Call("", block.strip()))  # a call that nobody can read is a wrong one
    return found


def _is(call: Call, wanted: ExpectedCall) -> bool:
    return call.name == wanted.name and (wanted.arguments is None or equal(call.arguments, wanted.arguments))


def _lacking(calls: list[Call], wanted: ExpectedCall) -> str:
    if any(not call.name for call in calls):
        return f"does not call {wanted.name}, but writes a call that cannot be read"
    same = next((call for call in calls if call.name == wanted.name), None)
    if same is not None:
        return f"calls {wanted.name}, but {first_difference(same.arguments, wanted.arguments, 'what it passes')}"
    made = ", ".join(call.name for call in calls)
    return f"does not call {wanted.name}" + (f" but {made}" if made else "")
