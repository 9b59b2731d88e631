"""A task of Inspect with a tool: numbers are to be doubled by it."""

from __future__ import annotations

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import Tool, tool


@tool  # type: ignore[untyped-decorator]
def double() -> Tool:
    """Return the tool."""

    async def execute(number: int) -> str:
        """Double a number.

        Args:
            number: the number.
        """
        return str(2 * number)

    return execute


@task  # type: ignore[untyped-decorator]
def doubles() -> Task:
    """Return the task: two numbers, and one whose expected answer is wrong."""
    samples = [Sample(id=f"double-{n}", input=f"Double {n}.", target=str(2 * n)) for n in (3, 4)]
    wrong = Sample(id="impossible", input="Double 5.", target="eleven")
    return Task(dataset=[*samples, wrong], solver=[use_tools(double()), generate()], scorer=includes())
