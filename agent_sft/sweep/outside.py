"""What the scheduler asks of others, and whom it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent_sft.report.sweep.record import SweepRecord
from agent_sft.sweep.graph import Job, SweepPlan
from agent_sft.sweep.slots import Capacity


@dataclass(frozen=True)
class Outside:
    """What is known of jobs outside the scheduler."""

    why_run: Callable[[SweepPlan, Job], str | None]
    """Why a job has to run, in words; None where it is done."""
    with_checkpoints: Callable[[SweepPlan, str], SweepPlan]
    """The plan with the checkpoints that a variant's training has left, in place of those that were expected."""
    write_report: Callable[[Path, bool], object] = lambda _folder, _complete: None
    """Make the report of the sweep in a folder, at its end with all that is bundled beside it."""
    note_done: Callable[[SweepPlan, Job], str | None] = lambda _plan, _job: None
    """Stamp a job whose command, which knows of no stamps, has ended well; or tell what it did not make."""
    expected_seconds: Callable[[Job], float | None] = lambda _job: None
    """How long a job takes, by what is known before it ran."""
    needed_bytes: Callable[[SweepPlan, Job], int | None] = lambda _plan, _job: None
    """What a training will write to the disk, by what is known before it ran."""


@dataclass(frozen=True)
class Opening:
    """What is going to happen."""

    to_do: dict[str, int]
    """Jobs that have to run, by their kind: `prepare`, `train`, `evaluate`."""
    done: int
    """Jobs that are done already."""
    capacity: Capacity
    seconds: float | None
    """Until all is done; None where nothing tells yet."""
    elsewhere: str | None = None
    """How long it took elsewhere, in words, where its file says so."""


class SweepReporter(Protocol):
    """Shows how a sweep goes."""

    def say(self, text: str) -> None:
        """Show a line."""

    def opens(self, opening: Opening) -> None:
        """Show what is going to happen."""

    def show(self, record: SweepRecord, remaining: float | None) -> None:
        """Show how everything stands; called several times a second.

        Args:
            record: of the sweep.
            remaining: seconds until all is done, as far as can be told.
        """

    def ended(self) -> None:
        """Nothing more is shown of how it stands."""
