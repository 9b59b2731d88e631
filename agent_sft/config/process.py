"""A pipeline of transforms: the YAML file that `--process` names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from agent_sft.config.yaml_files import read_mapping, validated


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
    content = read_mapping(path, "`transforms:` and a list of them")
    return validated(path, content, ProcessConfig, TransformConfig)
