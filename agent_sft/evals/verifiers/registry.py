"""Verifiers by their name: those built in, those that a package brings along, those in a file of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_sft.errors import UserError, nearest
from agent_sft.evals.verifiers.contract import Answer, Verdict, Verifier
from agent_sft.registry import Registry

IN_PROCESS = "in_process"

VERIFIERS = Registry(
    noun="verifier",
    group="agent_sft.verifiers",
    package="agent_sft.evals.verifiers",
    built_in=(
        "answered",
        "command",
        "contains",
        "exact",
        "json_equal",
        "json_schema",
        "numeric",
        "python",
        "regex",
        "tool_call",
    ),
)

register_verifier = VERIFIERS.register


def make_verifier(specification: Any, *, where: str, folder: Path) -> Verifier:
    """Return the verifier that a task names: `{"kind": "in_process", "fn_name": NAME, PARAMETER: ...}`.

    Args:
        specification: `kind` may be left out.
        where: the task's place, for errors.
        folder: of the tasks; files that the verifier names are relative to it.

    Raises:
        UserError: it is no such object, the verifier or a parameter is unknown (with the nearest name), or a value is
            wrong.
    """
    if not isinstance(specification, Mapping):
        raise UserError("'verifier' is no object", where=where, fix='write {"fn_name": "contains", "expected": "..."}')
    params = dict(specification)
    kind = params.pop("kind", IN_PROCESS)
    if kind != IN_PROCESS:
        is_name = kind in VERIFIERS.kinds()
        fix = f'write "fn_name": "{kind}"' if is_name else nearest(str(kind), [IN_PROCESS]) or f"use '{IN_PROCESS}'"
        raise UserError(f"there is no kind of verifier '{kind}'", where=where, fix=fix)
    name = params.pop("fn_name", None)
    if not isinstance(name, str):
        raise UserError("'verifier' has no 'fn_name'", where=where, fix=f"known are {', '.join(VERIFIERS.kinds())}")
    made: Verifier = VERIFIERS.make(name, params, where=where, folder=folder)
    if not isinstance(made, Verifier):
        raise UserError(f"'{name}' is no verifier", where=where, fix="derive it from Verifier")
    try:
        made.prepare(folder)
    except UserError as error:
        raise UserError(error.what, where=f"{where}: {error.where}" if error.where else where, fix=error.fix) from error
    return made


def verify(name: str, answer: Answer, **params: Any) -> Verdict:
    """Return what a verifier says of an answer: for evaluators of one's own that build on those there are.

    Raises:
        UserError: the verifier or a parameter is unknown, or a value is wrong.
        VerifierFailed: it could not be found out.
    """
    return make_verifier({"fn_name": name, **params}, where=f"verifier '{name}'", folder=Path()).judge(answer)
