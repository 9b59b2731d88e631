"""What verifiers of JSON share: finding the value in an answer."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from agent_sft.evals.verifiers import contract
from agent_sft.evals.verifiers.contract import ACCEPTED, Answer, Verdict, Verifier, rejected
from agent_sft.evals.verifiers.texts import Pattern, counted_part, parse_json


class JsonAnswer(Verifier):
    """Judges the JSON value that an answer is, as it is or between fences."""

    class Config(contract.Config):
        """Its parameters."""

        expected: Any
        pattern: Pattern | None = None
        """Only what this matches last counts: its first group, or all of it."""

    def verify(self, answer: Answer) -> Verdict:
        """Return whether there is a value, and a right one."""
        part = counted_part(answer.text, self.config.pattern)
        if part is None:
            return rejected(f"nothing in it matches {self.config.pattern}")
        try:
            value = parse_json(part)
        except ValueError as error:
            return rejected(f"is no JSON: {error}")
        fault = self.fault(value)
        return ACCEPTED if fault is None else rejected(fault)

    @abstractmethod
    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a value; None for a right one."""
