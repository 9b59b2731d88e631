"""`json_equal`: the answer is a JSON value."""

from __future__ import annotations

from typing import Any

from agent_sft.evals.verifiers.json_answer import JsonAnswer
from agent_sft.evals.verifiers.registry import register_verifier
from agent_sft.evals.verifiers.texts import equal, first_difference


@register_verifier("json_equal")
class JsonEqual(JsonAnswer):
    """Accepts an answer that is the expected JSON value, as it is or between fences. The order of keys is free."""

    def fault(self, value: Any) -> str | None:
        """Return the first difference."""
        expected = self.config.expected
        return None if equal(value, expected) else first_difference(value, expected)
