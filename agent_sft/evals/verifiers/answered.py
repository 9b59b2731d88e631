"""`answered`: there is an answer at all."""

from __future__ import annotations

from agent_sft.evals.verifiers.contract import ACCEPTED, Answer, Verdict, Verifier, rejected
from agent_sft.evals.verifiers.registry import register_verifier


@register_verifier("answered")
class Answered(Verifier):
    """Accepts any answer that says something or calls a tool: of data whose answers nothing can check."""

    def verify(self, answer: Answer) -> Verdict:
        """Return whether there is an answer."""
        return ACCEPTED if answer.calls or answer.text.strip() else rejected("says nothing and calls nothing")
