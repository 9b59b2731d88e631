"""`numeric`: the answer is a number, give or take."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from agent_sft.evals.verifiers import contract
from agent_sft.evals.verifiers.contract import ACCEPTED, Answer, Verdict, Verifier, rejected
from agent_sft.evals.verifiers.registry import register_verifier
from agent_sft.evals.verifiers.texts import Pattern, counted_part, numbers

Finite = Annotated[Decimal, Field(allow_inf_nan=False)]
NotNegative = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


@register_verifier("numeric")
class Numeric(Verifier):
    """Accepts an answer whose number is the expected one within the tolerance."""

    class Config(contract.Config):
        """Its parameters."""

        expected: Finite
        tolerance: NotNegative = Decimal("1e-6")
        """The largest difference that is accepted."""
        relative_tolerance: NotNegative = Decimal(0)
        """The same as a share of what is expected; the larger of the two holds."""
        take: Literal["last", "first", "only"] = "last"
        """Which of several numbers counts; with `only` there must not be others."""
        pattern: Pattern | None = None
        """Only what this matches last counts: its first group, or all of it."""

    def verify(self, answer: Answer) -> Verdict:
        """Return whether the number is right."""
        config = self.config
        part = counted_part(answer.text, config.pattern)
        if part is None:
            return rejected(f"nothing in it matches {config.pattern}")
        found = numbers(part)
        if not found:
            return rejected("holds no number")
        if config.take == "only" and len(found) > 1:
            return rejected(f"holds {len(found)} numbers, not one")
        number = found[0 if config.take == "first" else -1]
        allowed = max(config.tolerance, config.relative_tolerance * abs(config.expected))
        if abs(number - config.expected) <= allowed:
            return ACCEPTED
        return rejected(f"is {number}, not {config.expected}")
