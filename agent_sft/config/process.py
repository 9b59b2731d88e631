"""A pipeline of transforms: the YAML file that `--process` names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agent_sft.errors import UserError, nearest


class TransformConfig(BaseModel):
    """One transform of a pipeline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """What it is called in the registry, or `FILE.py:CLASS`, the file relative to the YAML file."""

    params: dict[str, Any] = Field(default_factory=dict)
    """Its parameters; files in them are relative to the YAML file."""


class ProcessConfig(BaseModel):
    """A pipeline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    transforms: tuple[TransformConfig, ...]
    """They run in this order; one without parameters can be given as its kind alone."""

    @field_validator("transforms", mode="before")
    @classmethod
    def _bare_kinds(cls, given: Any) -> Any:
        if not isinstance(given, list):
            raise ValueError("must be a list of transforms, each with its kind")
        return [{"kind": entry} if isinstance(entry, str) else entry for entry in given]


def read_process(path: Path) -> ProcessConfig:
    """Read a pipeline.

    Raises:
        UserError: it is missing, no YAML, or holds an unknown key, with the nearest known one.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
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
        raise UserError("must hold `transforms:` and a list of them", where=str(path))
    try:
        return ProcessConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        known = TransformConfig.model_fields if len(first["loc"]) > 1 else ProcessConfig.model_fields
        hint = nearest(str(first["loc"][-1]), known) if first["type"] == "extra_forbidden" else ""
        what = f"{place}: {message[:1].lower()}{message[1:]}"
        raise UserError(what, where=str(path), fix=hint or None) from error
