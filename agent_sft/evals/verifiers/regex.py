"""`regex`: the answer matches a regular expression."""

from __future__ import annotations

import re

from agent_sft.evals.verifiers import contract
from agent_sft.evals.verifiers.contract import ACCEPTED, Answer, Verdict, Verifier, rejected
from agent_sft.evals.verifiers.registry import register_verifier
from agent_sft.evals.verifiers.texts import Pattern


@register_verifier("regex")
class Regex(Verifier):
    """Accepts an answer in which the pattern matches somewhere; `^` and `$` tie it to the ends."""

    class Config(contract.Config):
        """Its parameters."""

        pattern: Pattern
        ignore_case: bool = False

    def verify(self, answer: Answer) -> Verdict:
        """Return whether the pattern matches."""
        if re.search(self.config.pattern, answer.text, re.IGNORECASE if self.config.ignore_case else 0):
            return ACCEPTED
        return rejected(f"nothing in it matches {self.config.pattern}")
