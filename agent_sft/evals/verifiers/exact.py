"""`exact`: the answer is a text."""

from __future__ import annotations

from agent_sft.evals.verifiers import contract
from agent_sft.evals.verifiers.contract import ACCEPTED, Answer, Verdict, Verifier, excerpt, rejected
from agent_sft.evals.verifiers.registry import register_verifier
from agent_sft.evals.verifiers.texts import Pattern, counted_part


@register_verifier("exact")
class Exact(Verifier):
    """Accepts an answer that is the expected text, or one of several. White space around it does not count."""

    class Config(contract.Config):
        """Its parameters."""

        expected: str | list[str]
        ignore_case: bool = False
        pattern: Pattern | None = None
        """Only what this matches last counts: its first group, or all of it."""

    def verify(self, answer: Answer) -> Verdict:
        """Return whether the answer is one of the texts."""
        config = self.config
        part = counted_part(answer.text, config.pattern)
        if part is None:
            return rejected(f"nothing in it matches {config.pattern}")
        allowed = [config.expected] if isinstance(config.expected, str) else config.expected
        said = part.strip()
        if config.ignore_case:
            said, allowed = said.casefold(), [text.casefold() for text in allowed]
        if said in [text.strip() for text in allowed]:
            return ACCEPTED
        return rejected(f"is {excerpt(part.strip())}, not {' or '.join(map(excerpt, allowed))}")
