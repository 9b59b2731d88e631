"""Our own YAML files, read into the model that describes them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from agent_sft.errors import UserError, nearest, wrong_value
from agent_sft.files import parse_yaml

Model = TypeVar("Model", bound=BaseModel)


def read_mapping(path: Path, holds: str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Args:
        path: the file.
        holds: what the file must hold, for the one who wrote something else.

    Raises:
        UserError: it is missing, cannot be read, is no YAML (with the line) or no mapping.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise UserError(what, where=str(path)) from error
    except UnicodeDecodeError as error:
        raise UserError("is not UTF-8 text", where=str(path)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark is not None else str(path)
        raise UserError("is not YAML", where=where) from error
    if not isinstance(content, dict):
        raise UserError(f"must hold {holds}", where=str(path))
    return content


def validated(
    path: Path | str,
    content: dict[str, Any],
    model: type[Model],
    inner: type[BaseModel] | Mapping[str, type[BaseModel]] | None = None,
) -> Model:
    """Validate what a file holds.

    Args:
        path: the file, or what else the content came from, as messages say it.
        content: what was read from it.
        model: what it must be.
        inner: the model of the entries of its lists, whose keys may be misspelt too; by the list's key where it has
            several.

    Raises:
        UserError: naming the key and what is wrong with it, with the nearest known one.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        within = inner.get(str(first["loc"][0])) if isinstance(inner, Mapping) else inner
        known = (within or model).model_fields if len(first["loc"]) > 1 else model.model_fields
        hint = nearest(str(first["loc"][-1]), known) if first["type"] == "extra_forbidden" else ""
        raise UserError(f"{place}: {wrong_value(first)}", where=str(path), fix=hint or None) from error


def as_number(value: Any) -> Any:
    """Return a number where a text is one that YAML 1.1 reads as text: `1e-5`, without a point."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value
