"""What a folder holds already: gone on with where it is the same evaluation, refused where it is another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from agent_sft.errors import UserError
from agent_sft.evals.results import EVALUATION, Evaluation, read_results

COMPARED = ("evaluator", "benchmark", "trials", "tasks", "limits", "settings", "versions")
"""What two runs must share for their trials to stand in one table; the model is compared by its weights, and a customer
at an address by its name, since servers change their ports."""


def kept_evaluation(folder: Path, asked: Evaluation) -> Evaluation:
    """Return the evaluation that `folder` holds, else the one that is asked for.

    Raises:
        UserError: it holds another one, naming what differs, or is damaged.
    """
    if not (folder / EVALUATION).is_file():
        return asked
    known, _ = read_results(folder)
    differing = [_difference(name, getattr(known, name), getattr(asked, name)) for name in COMPARED]
    differing.append(_difference("user_model", _customer(known.user_model), _customer(asked.user_model)))
    if known.model_digest is not None and asked.model_digest is not None:
        differing.append("the model's weights are others" if known.model_digest != asked.model_digest else "")
    else:
        differing.append(_difference("model", known.model, asked.model))
    found = [text for text in differing if text]
    if found:
        raise UserError(
            f"holds another evaluation: {'; '.join(found)}",
            where=str(folder),
            fix="choose another --out, or give --fresh to set it aside",
        )
    return known


def _customer(text: str | None) -> str | None:
    return text if text is None or "://" not in text else text.partition("#")[2]


def _difference(name: str, before: Any, after: Any) -> str:
    before, after = (msgspec.to_builtins(value) for value in (before, after))
    if before == after:
        return ""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        return ", ".join(_difference(f"{name}.{key}", before.get(key), after.get(key)) for key in keys)
    if isinstance(before, list) and isinstance(after, list):
        return f"{name}: {len(before)} before, {len(after)} now, {len(set(before) & set(after))} of them the same"
    return f"{name} was {before}, is {after}"
