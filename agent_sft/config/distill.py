"""What a distillation is asked to do: the options of `agent-sft distill`, each with its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from agent_sft.config.yaml_files import read_mapping
from agent_sft.errors import UserError, nearest, wrong_value

KEY_VARIABLE = "AGENT_SFT_API_KEY"
"""Holds the teacher's key unless another variable is named."""


class DistillConfig(BaseModel):
    """The options of one distillation. Field names are the flags' names with underscores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: tuple[str, ...] = ()
    """What the teacher is asked: files of prompts, conversations or tasks, globs, NAME@VERSION, hf:NAME."""

    task: str | None = None
    """An Inspect task instead: the teacher works through its samples, with its tools."""

    task_args: dict[str, Any] = Field(default_factory=dict)
    """The Inspect task's own arguments."""

    scorer: str | None = None
    """Which scorer of the Inspect task counts; its first when not given."""

    user_model: str | None = None
    """Who plays the customer of the Inspect task, as `agent-sft eval run` takes it."""

    teacher: str
    """The address of a server, `http://HOST:PORT/v1` with `#NAME` where it serves several models; or a run of ours, a
    model's folder or hub name, which is served for the time of it."""

    key_variable: str = KEY_VARIABLE
    """The environment variable that holds the teacher's key; `.env` is read too."""

    to: str
    """Where the conversations go: NAME@VERSION, a new version of a dataset, or a file, FILE.jsonl."""

    out: Path | None = None
    """The folder of the work: answers, failures, report; `distilled/NAME` when not given."""

    reuse: tuple[Path, ...] = ()
    """Folders of other distillations, whose answers to the same requests are taken over."""

    samples: int = Field(1, gt=0)
    """Answers to each prompt, at most."""

    keep: Literal["first", "best", "all"] = "first"
    """Of several: the first that is accepted, asking for no more; the best of all; or all that are accepted."""

    verifier: str | None = None
    """Judges the answers to prompts that bring none along; `answered` accepts any that says something."""

    params: dict[str, Any] = Field(default_factory=dict)
    """The verifier's parameters."""

    min_reward: float = Field(1.0, ge=0, le=1)
    """The score from which an answer is accepted."""

    reasoning: bool = True
    """Keep what the teacher thought before it answered."""

    concurrency: int = Field(16, gt=0, le=1024)
    """Prompts that are worked on at the same time."""

    temperature: float = Field(0.7, ge=0)
    """Of the teacher."""

    max_tokens: int = Field(2048, gt=0)
    """Tokens of one answer."""

    request: dict[str, Any] = Field(default_factory=dict)
    """Further fields of every request, such as `top_p`; one that is null is left out."""

    seed: int = 42
    """From which each sample of each prompt gets a seed of its own."""

    max_tokens_total: int | None = Field(None, gt=0)
    """Tokens of all requests and answers together, over all runs of the same folder, at most."""

    budget: float | None = Field(None, gt=0)
    """What all of them may cost at most, in the currency of the prices."""

    price_in: float | None = Field(None, ge=0)
    """Of a million tokens of requests."""

    price_out: float | None = Field(None, ge=0)
    """Of a million tokens of answers."""

    limit: int | None = Field(None, gt=0)
    """Only the first prompts."""

    format: str | None = None
    """What the rows of the prompts are; recognised from them when not given."""

    allow_rejects: bool = False
    """Go on with the usable prompts when others cannot be used."""

    allow_missing: bool = False
    """Write the dataset also when prompts got no answer."""

    max_messages: int = Field(200, gt=0)
    """Messages of an Inspect sample."""

    token_limit: int = Field(1_000_000, gt=0)
    """Tokens of an Inspect sample, prompts counted again at each request."""

    time_limit: int = Field(7200, gt=0)
    """Seconds of a prompt, pauses that the teacher's server asked for included."""

    request_timeout: int = Field(300, gt=0)
    """Seconds until a request that got no answer is given up and tried again."""

    max_retries: int = Field(8, ge=0)
    """How often a request is tried again when the server fails, with growing pauses between."""

    serve: dict[str, Any] = Field(default_factory=dict)
    """Options of `agent-sft serve`, for a teacher that is served."""

    @field_validator("prompts", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _fit_together(self) -> DistillConfig:
        if bool(self.prompts) == (self.task is not None):
            raise ValueError("name either files of prompts or one Inspect task (--task)")
        if self.budget is not None and (self.price_in is None or self.price_out is None):
            raise ValueError("--budget needs --price-in and --price-out: what a million tokens cost")
        if self.task is not None and (self.verifier or self.params or self.format):
            raise ValueError("--verifier, --param and --format are for files: an Inspect task scores by itself")
        if self.task is None and (self.task_args or self.scorer or self.user_model):
            raise ValueError("--task-arg, --scorer and --user-model are for an Inspect task")
        if self.params and self.verifier is None:
            raise ValueError("--param is a parameter of --verifier, which is not given")
        for name in ("model", "messages", "tools", "stream", "n", "seed", "temperature"):
            if name in self.request:
                raise ValueError(f"--request {name} is not for you to say: it has an option, or is decided here")
        return self


def read_distill_config(path: Path | None, given: dict[str, Any]) -> DistillConfig:
    """Read the options of a distillation: defaults < the file's < those given.

    Args:
        path: a YAML file, None for no file.
        given: options by field name; mappings are added to the file's.

    Raises:
        UserError: the file is missing or no YAML, an option is unknown (with the nearest known one), wrong or missing.
    """
    content = read_mapping(path, "options, each with its value") if path is not None else {}
    merged = {**content, **given}
    for name in ("params", "task_args", "request", "serve"):
        before = content.get(name)
        if isinstance(before, dict) and name in given:
            merged[name] = {**before, **given[name]}
    try:
        return DistillConfig.model_validate(merged)
    except ValidationError as error:
        raise _wrong_option(error, path) from error


def _wrong_option(error: ValidationError, path: Path | None) -> UserError:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    flag = "--" + name.replace("_", "-")
    place = str(path) if path is not None else None
    if first["type"] == "missing":
        return UserError(f"{flag} is missing", where=place)
    if first["type"] == "extra_forbidden":
        where = f"{path}, {name}"
        return UserError("there is no such option", where=where, fix=nearest(name, DistillConfig.model_fields) or None)
    if not name:
        return UserError(wrong_value(first), where=place)
    where = f"{path}, {name}" if path is not None else flag
    return UserError(wrong_value(first), where=where)
