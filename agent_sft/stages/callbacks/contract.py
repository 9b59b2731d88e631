"""What a callback is: it is told what is measured while a model trains, and can end the training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
from pydantic import BaseModel

from agent_sft.config.benchmark import BenchmarkConfig

TRAIN_LOSS, EVAL_LOSS, RATE, EPOCH = "train_mean_nll", "eval_mean_nll", "optim/lr", "progress/epoch"
"""Names of what the trainer measures. Scores are called `SPLIT/BENCHMARK/METRIC`."""


class NoParameters(BaseModel, extra="forbid"):
    """The parameters of a callback that takes none."""


class Measured(msgspec.Struct, frozen=True):
    """What was measured at a step: a line of `metrics.jsonl`."""

    step: int
    split: str
    """`train`, `eval` (the evaluation loss), or the benchmark's own: `val`, `test`."""
    metrics: dict[str, float]


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer of the model to a task of a benchmark: a line of `predictions/NAME.jsonl`."""

    step: int
    task_id: str
    trial: int
    score: float | None
    """None where nothing is known about the answer."""
    answer: str | None = None
    """Its words; None where the evaluator keeps them elsewhere."""
    tool_calls: list[dict[str, Any]] = []
    reason: str | None = None
    """What is wrong with it, or why nothing is known."""


@dataclass(frozen=True)
class Begin:
    """A training that is about to begin, or to go on."""

    name: str
    folder: Path
    """The run's directory."""
    benchmarks: tuple[BenchmarkConfig, ...]
    step: int
    """The step that it goes on from."""
    history: tuple[Measured, ...]
    """What was measured up to that step."""
    best_by: str | None
    """The metric that chooses the model."""
    say: Callable[[str], None]
    """Shows a line."""


@dataclass(frozen=True)
class End:
    """How a training ended."""

    status: Literal["completed", "stopped", "failed"]
    step: int
    why: str | None
    """Of an end that was not the last step."""
    best: tuple[int, float] | None
    """The step whose weights were chosen, and its score."""


class Callback:
    """Watches a training. A subclass has a `Config` and the methods it needs."""

    Config: ClassVar[type[BaseModel]] = NoParameters
    decides: ClassVar[bool] = True
    """Whether what it does changes what is trained: it may end the training."""
    report_to: ClassVar[str | None] = None
    """The trainer's own reporter that does the work."""

    def __init__(self, **params: Any) -> None:
        self.config: Any = self.Config(**params)

    def variables(self) -> dict[str, str]:
        """Return environment variables for the trainer."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Return settings of LLaMA-Factory."""
        return {}

    def on_begin(self, begin: Begin) -> None:
        """The training begins, or goes on."""

    def on_metrics(self, measured: Measured) -> str | None:
        """Something was measured; return why the training is to end now, or None."""

    def on_predictions(self, benchmark: BenchmarkConfig, predictions: Sequence[Prediction]) -> None:
        """A benchmark was scored; comes before its metrics."""

    def on_end(self, end: End) -> None:
        """The training ended."""
