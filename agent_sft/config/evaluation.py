"""What one evaluation is asked to do: the options of `agent-sft eval run`, each with its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agent_sft.config.yaml_files import read_mapping
from agent_sft.errors import UserError, nearest, wrong_value


class LimitsConfig(BaseModel):
    """What bounds a trial. There is no way to switch one off: an unbounded trial has burned millions of tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_messages: int = Field(200, gt=0)
    """Messages of a conversation, those of tools included."""

    token_limit: int = Field(1_000_000, gt=0)
    """Tokens of a trial, prompts counted again at each request, as providers count them."""

    time_limit: int = Field(1800, gt=0)
    """Seconds of a trial."""

    request_timeout: int = Field(300, gt=0)
    """Seconds until a request that got no answer is given up and tried again."""

    max_retries: int = Field(5, ge=0)
    """How often a request is tried again when the provider fails, with growing pauses between."""


class EvaluationConfig(BaseModel):
    """The options of one evaluation. Field names are the flags' names with underscores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """A run of ours, a folder or hub name of a model, or the address of a server (`http://HOST:PORT/v1`, followed by
    `#NAME` where it serves several)."""

    evaluator: str
    """Its kind in the registry, or `FILE.py:CLASS`."""

    task: str
    """What to evaluate on; what can be named here depends on the evaluator."""

    out: Path
    """Where the results go."""

    trials: int = Field(1, gt=0)
    """Trials of each task."""

    limit: int | None = Field(None, gt=0)
    """Only the first tasks, in the benchmark's own order."""

    task_ids: tuple[str, ...] = ()
    """Only these tasks."""

    user_model: str | None = None
    """Who plays the customer: `PROVIDER/NAME`, an address (`http://HOST:PORT/v1#NAME`), `local` for the base model on
    the same server, or `scripted` for the benchmark's own script."""

    concurrency: int = Field(16, gt=0)
    """Trials that run at the same time."""

    temperature: float = Field(0.0, ge=0)
    """Of the agent. The server's own default never counts."""

    max_tokens: int = Field(1024, gt=0)
    """Tokens of one answer."""

    seed: int = 42
    """From which each trial of each task gets a seed of its own."""

    limits: LimitsConfig = LimitsConfig()
    """What bounds a trial."""

    serve: dict[str, Any] = Field(default_factory=dict)
    """Options of `agent-sft serve`, for a model that is served for this evaluation."""

    params: dict[str, Any] = Field(default_factory=dict)
    """The evaluator's own parameters."""

    @property
    def capability(self) -> str | None:
        """What is put before every conversation: an option of the server, which evaluators that need none heed too."""
        given = self.serve.get("capability")
        return None if given is None else str(given)

    @field_validator("task_ids", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        """YAML reads a task's number as a number."""
        return tuple(str(entry) for entry in given) if isinstance(given, list | tuple) else given


def read_evaluation_config(path: Path | None, given: dict[str, Any]) -> EvaluationConfig:
    """Read the options of an evaluation: defaults < the file's < those given.

    Args:
        path: a YAML file, None for no file.
        given: options by field name; those of `limits` by their own names; `params` and `serve` are added to the
            file's.

    Raises:
        UserError: the file is missing or no YAML, an option is unknown (with the nearest known one), wrong or missing.
    """
    content = read_mapping(path, "options, each with its value") if path is not None else {}
    limits = {name: given.pop(name) for name in LimitsConfig.model_fields if name in given}
    merged = {**content, **given}
    for name, added in (("limits", limits), ("params", given.get("params", {})), ("serve", given.get("serve", {}))):
        before = content.get(name, {})
        if isinstance(before, dict) and (before or added):
            merged[name] = {**before, **added}
    try:
        return EvaluationConfig.model_validate(merged)
    except ValidationError as error:
        raise _wrong_option(error, path) from error


def _wrong_option(error: ValidationError, path: Path | None) -> UserError:
    first = error.errors()[0]
    names = [str(part) for part in first["loc"]]
    flag = "--" + names[-1].replace("_", "-")
    where = f"{path}, {'.'.join(names)}" if path is not None else flag
    if first["type"] == "missing":
        return UserError(f"{flag} is missing", where=str(path) if path is not None else None)
    if first["type"] == "extra_forbidden":
        known = LimitsConfig.model_fields if len(names) > 1 else EvaluationConfig.model_fields
        return UserError("there is no such option", where=where, fix=nearest(names[-1], known) or None)
    return UserError(wrong_value(first), where=where)
