"""`contains`: the answer holds a text."""

from __future__ import annotations

from agent_sft.evals.verifiers import contract
from agent_sft.evals.verifiers.contract import ACCEPTED, Answer, Verdict, Verifier, excerpt, rejected
from agent_sft.evals.verifiers.registry import register_verifier


@register_verifier("contains")
class Contains(Verifier):
    """Accepts an answer that holds the expected text, or all of several."""

    class Config(contract.Config):
        """Its parameters."""

        expected: str | list[str]
        ignore_case: bool = False

    def verify(self, answer: Answer) -> Verdict:
        """Return whether the text is there."""
        config = self.config
        wanted = [config.expected] if isinstance(config.expected, str) else config.expected
        text = answer.text.casefold() if config.ignore_case else answer.text
        for part in wanted:
            if (part.casefold() if config.ignore_case else part) not in text:
                return rejected(f"does not contain {excerpt(part)}")
        return ACCEPTED
