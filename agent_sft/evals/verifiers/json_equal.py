"""`json_equal`: the answer is a JSON value."""

from __future__ import annotations

from typing import Any

from agent_sft.evals.verifiers import contract
from agent_sft.evals.verifiers.contract import ACCEPTED, Answer, Verdict, Verifier, rejected
from agent_sft.evals.verifiers.registry import register_verifier
from agent_sft.evals.verifiers.texts import Pattern, counted_part, equal, first_difference, parse_json


@register_verifier("json_equal")
class JsonEqual(Verifier):
    """Accepts an answer that is the expected JSON value, as it is or between fences. The order of keys is free."""

    class Config(contract.Config):
        """Its parameters."""

        expected: Any
        pattern: Pattern | None = None
        """Only what this matches last counts: its first group, or all of it."""

    def verify(self, answer: Answer) -> Verdict:
        """Return whether the value is right."""
        part = counted_part(answer.text, self.config.pattern)
        if part is None:
            return rejected(f"nothing in it matches {self.config.pattern}")
        try:
            value = parse_json(part)
        except ValueError as error:
            return rejected(f"is no JSON: {error}")
        if equal(value, self.config.expected):
            return ACCEPTED
        return rejected(first_difference(value, self.config.expected))
