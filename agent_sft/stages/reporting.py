"""What a stage tells while it works; the command line decides how it looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is."""

    step: int
    """Optimizer steps done, those of earlier attempts included."""
    total: int
    loss: float | None
    eval_loss: float | None
    rate: float | None
    """Steps per second of this attempt."""
    remaining: float | None
    """Seconds to the last step at this rate."""


class Reporter(Protocol):
    """Receives what a stage has to say."""

    def say(self, text: str) -> None:
        """Show a line."""

    def progress(self, progress: TrainingProgress) -> None:
        """Show how far the training is."""

    def progress_ended(self) -> None:
        """The training ended, one way or another."""


@dataclass(frozen=True)
class EvaluationProgress:
    """How far an evaluation is."""

    done: int
    """Trials that ended in this run."""
    total: int
    successes: int
    failed: int
    """Trials that say nothing about the model because the infrastructure failed."""
    rate: float
    """Trials per second of this run."""
    remaining: float
    """Seconds to the last trial at this rate."""


class EvaluationReporter(Protocol):
    """Receives what an evaluation has to say, and what is needed for it."""

    def say(self, text: str) -> None:
        """Show a line."""

    def progress(self, progress: EvaluationProgress | TrainingProgress) -> None:
        """Show how far it is."""

    def progress_ended(self) -> None:
        """It ended, one way or another."""


class Quiet:
    """Takes what is said and says nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def progress(self, progress: EvaluationProgress | TrainingProgress) -> None:
        """Show nothing."""

    def progress_ended(self) -> None:
        """Show nothing."""
