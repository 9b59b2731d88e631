"""`tool_call`: the answer calls the right tools with the right arguments."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from agent_sft.evals.verifiers import contract
from agent_sft.evals.verifiers.contract import ACCEPTED, Answer, Call, Verdict, Verifier, excerpt, rejected
from agent_sft.evals.verifiers.registry import register_verifier
from agent_sft.evals.verifiers.texts import equal, first_difference


class ExpectedCall(BaseModel, extra="forbid"):
    """A call that is expected."""

    name: str
    arguments: dict[str, Any] | None = None
    """None accepts any."""


@register_verifier("tool_call")
class ToolCall(Verifier):
    """Accepts an answer that makes the expected calls, in any order, and no others. None are expected of `[]`."""

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
        left = list(answer.calls)
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


def _is(call: Call, wanted: ExpectedCall) -> bool:
    return call.name == wanted.name and (wanted.arguments is None or equal(call.arguments, wanted.arguments))


def _lacking(calls: list[Call], wanted: ExpectedCall) -> str:
    same = next((call for call in calls if call.name == wanted.name), None)
    if same is not None:
        return f"calls {wanted.name}, but {first_difference(same.arguments, wanted.arguments, 'what it passes')}"
    made = ", ".join(call.name for call in calls)
    return f"does not call {wanted.name}" + (f" but {made}" if made else "")
