"""How progress looks: a bar on a terminal, a plain line once in a while in a log."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from agent_sft.stages.reporting import EvaluationProgress, TrainingProgress

PLAIN_SECONDS = 30.0
"""Time between two progress lines where there is no terminal."""


def say(text: str) -> None:
    """Show a line of what is going on, apart from results."""
    click.echo(text, err=True)


def program() -> str:
    """Return the command that is this program, wherever it is pasted."""
    beside = Path(sys.executable).with_name("agent-sft")
    return str(beside) if beside.is_file() else "agent-sft"


class TerminalReporter:
    """Shows a stage's words and progress on standard error."""

    def __init__(self, title: str = "evaluating", unit: str = "trial") -> None:
        """Begin.

        Args:
            title: what an evaluation is called.
            unit: what it consists of.
        """
        self._title, self._unit = title, unit
        self._bar: Any = None
        self._task: Any = None
        self._said = 0.0

    def say(self, text: str) -> None:
        """Show a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            say(text)

    def progress(self, progress: TrainingProgress | EvaluationProgress) -> None:
        """Move the bar, or say a line if the last one is a while ago."""
        from agent_sft.stages.reporting import TrainingProgress

        if isinstance(progress, TrainingProgress):
            title, unit, done = "training", "step ", progress.step
            parts = _training_figures(progress)
        else:
            title, unit, done = self._title, f"{self._unit} ", progress.done
            parts = _evaluation_figures(progress, self._unit)
        if sys.stderr.isatty():
            self._move_bar(title, done, progress.total, "".join(f"  {part}" for part in parts))
        elif time.monotonic() - self._said >= PLAIN_SECONDS or done == progress.total:
            self._said = time.monotonic()
            say(f"{title}: {', '.join([f'{unit}{done}/{progress.total}', *parts])}")

    def progress_ended(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _move_bar(self, title: str, done: int, total: int, figures: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        if self._bar is None:
            self._bar = Progress(
                TextColumn(title),
                BarColumn(bar_width=None),
                TextColumn("{task.completed:.0f}/{task.total:.0f}{task.fields[figures]}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(title, total=total, figures="")
        self._bar.update(self._task, completed=done, figures=figures)


def duration(seconds: float) -> str:
    """Return a duration as people say it: `42 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _training_figures(progress: TrainingProgress) -> list[str]:
    parts = []
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.eval_loss is not None:
        parts.append(f"eval loss {progress.eval_loss:.3f}")
    if progress.rate:
        parts.append(f"{progress.rate:.1f} steps/s" if progress.rate >= 1 else f"{1 / progress.rate:.1f} s/step")
    if progress.remaining is not None:
        parts.append(f"{duration(progress.remaining)} left")
    return parts


def _evaluation_figures(progress: EvaluationProgress, unit: str) -> list[str]:
    parts = [f"{progress.successes} succeeded"]
    if progress.failed:
        parts.append(f"{progress.failed} could not be run")
    parts.append(f"{progress.rate:.1f} {unit}s/s" if progress.rate >= 1 else f"{1 / progress.rate:.1f} s/{unit}")
    return [*parts, f"{duration(progress.remaining)} left"]
