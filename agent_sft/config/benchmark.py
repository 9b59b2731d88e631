"""A benchmark that is scored while a model trains, or when it has been trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")
_MEASURE = re.compile(r"score|pass[\^@][1-9]\d*")

Where = Literal["auto", "in_process", "server"]
Split = Literal["val", "test"]


class BenchmarkConfig(BaseModel):
    """One benchmark of a training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    """Names its scores and its files; the folder's name when not given."""

    path: str
    """A folder that holds `tasks.jsonl`, or what else `evaluator` evaluates on."""

    run_every: int | None = Field(None, gt=0)
    """Scored after every so many optimizer steps, and after the last one; None: once, when training has ended."""

    metrics: tuple[str, ...] = Field(("pass@1",), min_length=1)
    """What is reported: `pass@K`, `pass^K` or `score`. The first one is the benchmark's score."""

    split: Split = "val"
    """A label that keeps the scores of benchmarks apart; it does not decide when one is scored."""

    max_tokens: int = Field(256, gt=0)
    """Tokens of one answer."""

    temperature: float = Field(0.0, ge=0)
    """Of the answers; 0 always takes the likeliest token."""

    limit: int | None = Field(None, gt=0)
    """Only the first tasks."""

    trials: int = Field(1, gt=0)
    """Answers to each task."""

    evaluator: str = "tasks"
    """The kind of evaluator, as `agent-sft eval run` names it."""

    params: dict[str, Any] = Field(default_factory=dict)
    """The evaluator's own parameters."""

    user_model: str | None = None
    """Who plays the customer, where there is one."""

    where: Where = "auto"
    """`in_process`: the training waits while the model that trains answers. `server`: the checkpoint of that step is
    scored on a server beside the training, which goes on."""

    batch_size: int = Field(16, gt=0)
    """Answers that are generated at the same time."""

    seed: int = 42
    """From which each trial of each task gets a seed of its own."""

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, given: Any) -> Any:
        return {"path": str(given)} if isinstance(given, str | Path) else given

    @field_validator("metrics", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @field_validator("metrics")
    @classmethod
    def _measures(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for name in given:
            if not _MEASURE.fullmatch(name):
                raise ValueError(f"there is no metric '{name}': there are pass@K, pass^K (such as pass@1) and score")
        return given

    @model_validator(mode="after")
    def _named(self) -> BenchmarkConfig:
        if not self.name:
            path = Path(self.path)
            last = path.parent if path.suffix == ".jsonl" else path
            object.__setattr__(self, "name", re.sub(r"[^\w.-]+", "-", last.resolve().name).strip(".-_") or "benchmark")
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"'{self.name}' cannot name a file: letters, digits and . _ - are allowed")
        most = max((int(name[5:]) for name in self.metrics if name != "score"), default=1)
        if most > self.trials:
            raise ValueError(f"a metric over {most} trials needs trials: {most} (given: {self.trials})")
        return self

    def __str__(self) -> str:
        """As the command line names it."""
        return self.path

    def key(self, metric: str) -> str:
        """Return the name under which a metric is logged, `SPLIT/NAME/METRIC`."""
        return f"{self.split}/{self.name}/{metric}"

    @property
    def score_key(self) -> str:
        """The name of its score."""
        return self.key(self.metrics[0])
