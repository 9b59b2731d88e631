"""Experiment trackers: the trainer's own reporters do the work, and get the scores of benchmarks too."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel

from agent_sft.stages.callbacks.contract import Callback


class Tracker(Callback):
    """A tracker that the trainer reports to."""

    decides = False
    project_variable: ClassVar[str]
    """The environment variable by which the tracker is told of the project."""

    class Config(BaseModel, extra="forbid"):
        """Its parameters."""

        project: str | None = None
        """Where the tracker files the run; for TensorBoard a folder."""

    def variables(self) -> dict[str, str]:
        """Return how the tracker is told of the project."""
        return {self.project_variable: self.config.project} if self.config.project else {}
