"""Evaluators by their kind: those built in, those that a package brings along, those in a file of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from agent_sft.errors import UserError
from agent_sft.registry import Registry
from agent_sft.stages.evaluators.contract import Evaluator

T = TypeVar("T", bound=type[Any])

EVALUATORS = Registry(
    noun="evaluator",
    group="agent_sft.evaluators",
    package="agent_sft.stages.evaluators",
    built_in=("command", "inspect", "loss", "tasks", "tau2"),
)


def register_evaluator(kind: str) -> Callable[[T], T]:
    """Return a decorator that lets a class be found by `kind`.

    Raises:
        UserError: another class has this kind already.
    """
    return EVALUATORS.register(kind)


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
