"""`agent-sft eval`: score a served model, and read what the numbers say."""

from __future__ import annotations

from importlib.util import find_spec

import click

from agent_sft.cli.lazy import LazyGroup

PREFIX = "agent_sft.cli.eval_"

COMMANDS = {
    "run": "Score a model on a benchmark; run again, it goes on where it was.",
    "retry": "Run again the trials whose infrastructure failed.",
    "list": "List the evaluators and the evaluations of a folder.",
    "report": "Show pass^k and pass@k of an evaluation, with their intervals.",
    "compare": "Compare evaluations on the same tasks.",
    "draft": "Write an evaluator and held-out tasks for checkable data.",
}
"""Each lives in the module `agent_sft.cli.eval_NAME`."""


@click.group(
    cls=LazyGroup,
    known={name: text for name, text in COMMANDS.items() if find_spec(PREFIX + name)},
    prefix=PREFIX,
)
def command() -> None:
    """Score a served model with numbers one can trust."""
