"""Evaluators by their kind: those built in, those that a package brings along, those in a file of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_sft.errors import UserError
from agent_sft.registry import Registry
from agent_sft.stages.evaluators.contract import Evaluator

EVALUATORS = Registry(
    noun="evaluator",
    group="agent_sft.evaluators",
    package="agent_sft.stages.evaluators",
    built_in=("command", "inspect", "loss", "tasks", "tau2"),
)

register_evaluator = EVALUATORS.register


def make_evaluator(kind: str, params: Mapping[str, Any], *, where: str, folder: Path | None = None) -> Evaluator:
    """Return an evaluator with its parameters.

    Raises:
        UserError: the kind is unknown, or a parameter is (with the nearest name), or has a wrong value.
    """
    made: Evaluator = EVALUATORS.make(kind, params, where=where, folder=folder)
    if not isinstance(made, Evaluator):
        raise UserError(f"'{kind}' is no evaluator", where=where, fix="derive it from Evaluator")
    made.kind = kind
    return made
