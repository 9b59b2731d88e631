"""A capability around an example: its system prompt and its tools in place of those that the conversation has."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent_sft.data.capabilities import Capability
from agent_sft.data.dialects import Dialect
from agent_sft.data.sharegpt import Example
from agent_sft.data.tools import tools_text
from agent_sft.data.turns import Unusable
from agent_sft.errors import UserError


@dataclass(frozen=True)
class Scaffold:
    """What stands before every conversation, as examples carry it."""

    reference: str
    system: str | None
    """None leaves each its own."""
    tools: str | None

    @classmethod
    def of(cls, capability: Capability, dialect: Dialect) -> Scaffold:
        """Return it for a template's dialect.

        Raises:
            UserError: the template cannot show these tools.
        """
        try:
            tools = tools_text(list(capability.tools), dialect) if capability.tools is not None else None
        except Unusable as unusable:
            raise UserError(str(unusable), where=capability.reference) from unusable
        return cls(capability.reference, capability.system_prompt, tools)

    def around(self, examples: tuple[Example, ...]) -> tuple[Example, ...]:
        """Return examples with it in front, and that it was put there among what was done to them."""
        return tuple(map(self._around, examples))

    def _around(self, example: Example) -> Example:
        system = example.system if self.system is None else self.system
        tools = example.tools if self.tools is None else self.tools
        if (system, tools) == (example.system, example.tools):
            return example
        changes = {**example.changes, f"put {self.reference} before it": 1}
        return replace(example, system=system, tools=tools, changes=changes)
