"""How a sweep looks while it runs: a table on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_sft.cli.show import PLAIN_SECONDS, duration, say

if TYPE_CHECKING:
    from rich.table import Table

    from agent_sft.report.sweep.record import SweepRecord
    from agent_sft.sweep.outside import Opening
    from agent_sft.sweep.progress import Line, Progress

REFRESH_SECONDS = 0.5
AROUND = 4
"""Lines of a terminal that are no variant's: the head, the rest in a line, the time, where one types."""
COLOURS = {"done": "green", "failed": "red", "skipped": "yellow", "waiting": "dim"}


class SweepTable:
    """Shows a sweep on standard error: the lines of what happens, and below them how everything stands."""

    def __init__(self, folder: Path) -> None:
        """Show the sweep in `folder`."""
        self._folder = folder
        self._progress: Progress | None = None
        self._live: Any = None
        self._shown = 0.0
        self._plain = ""
        self._pace = Pace()

    def say(self, text: str) -> None:
        """Show a line, above the table if there is one."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            say(text)

    def opens(self, opening: Opening) -> None:
        """Show in one line what is going to happen and how long it takes."""
        self.say(opening_line(opening))

    def show(self, record: SweepRecord, remaining: float | None) -> None:
        """Show how everything stands, once in a while."""
        on_terminal = sys.stderr.isatty()
        if time.monotonic() - self._shown < (REFRESH_SECONDS if on_terminal else PLAIN_SECONDS):
            return
        first = self._shown == 0.0
        self._shown = time.monotonic()
        lines = self._look(record)
        if on_terminal:
            self._move(lines, remaining)
        elif not first:
            running = [words(line, self._pace) for line in lines if line.done is not None]
            left = f"; about {duration(remaining)} left" if remaining is not None else ""
            text = "; ".join(running)
            if text and text != self._plain:
                self._plain = text
                self.say(f"{text}{left}")

    def ended(self) -> None:
        """Leave the table as it is."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _look(self, record: SweepRecord) -> list[Line]:
        from agent_sft.sweep.progress import Progress

        self._progress = self._progress or Progress(self._folder)
        lines = self._progress.lines(record)
        for line in lines:
            self._pace.look(line)
        return lines

    def _move(self, lines: list[Line], remaining: float | None) -> None:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        lines, rest = most_telling(lines, self._live.console.size.height - AROUND)
        left = (
            "how long it takes is known later" if remaining is None else f"all is done in about {duration(remaining)}"
        )
        texts = [Text(text, style="dim") for text in (rest, left) if text]
        self._live.update(Group(table(lines, self._pace), *texts), refresh=True)


class Pace:
    """How fast each stage goes, by what was seen of it."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, int | None], tuple[float, int]] = {}

    def look(self, line: Line) -> None:
        """Remember where a stage was when it was first seen."""
        if line.done is not None:
            self._seen.setdefault((line.name, line.stage, line.total), (time.monotonic(), line.done))

    def remaining(self, line: Line) -> float | None:
        """Return the seconds that a line's stage still takes; None where nothing tells."""
        first = self._seen.get((line.name, line.stage, line.total))
        if first is None or line.done is None or line.total is None or line.done <= first[1]:
            return None
        return (time.monotonic() - first[0]) / (line.done - first[1]) * (line.total - line.done)


def show_end(folder: Path, record: SweepRecord) -> None:
    """Print how every variant ended, the answer in a sentence, and where the page is."""
    import click
    from rich.console import Console

    from agent_sft.report.sweep.answer import answer
    from agent_sft.report.sweep.facts import read_sweep
    from agent_sft.report.sweep.scores import read_scores
    from agent_sft.report.sweep.writing import PAGE, REPORT
    from agent_sft.sweep.progress import Progress

    Console(soft_wrap=True).print(table(Progress(folder).lines(record)))
    for found in read_scores(read_sweep(folder)):
        for sentence in answer(found):
            click.echo(sentence)
    page = folder / REPORT / PAGE
    if page.is_file():
        click.echo(f"report: {page}")


def opening_line(opening: Opening) -> str:
    """Return what is going to happen, in a line."""
    if not opening.to_do:
        return f"all {opening.done} jobs are done already"
    names = {"prepare": "preparation", "train": "training", "evaluate": "evaluation"}
    parts = [f"{number} {names[kind]}{'s' if number > 1 else ''}" for kind, number in opening.to_do.items()]
    gpus, cores = len(opening.capacity.gpus), opening.capacity.cores
    where = f"{gpus} GPU{'s' if gpus > 1 else ''}" if gpus else f"{cores} processor{'s' if cores > 1 else ''}"
    if opening.capacity.nodes is not None:
        where += f" of {len(opening.capacity.nodes)} machines"
    done = f" ({opening.done} done already)" if opening.done else ""
    known = opening.seconds
    unknown = opening.elsewhere or "how long is known when the first have ended"
    how_long = unknown if known is None else f"about {duration(known)}"
    return f"{', '.join(parts)} to do{done} on {where}: {how_long}"


def table(lines: list[Line], pace: Pace | None = None) -> Table:
    """Return a table with a line for each variant."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("variant", "stage"):
        shown.add_column(name, overflow="ellipsis", no_wrap=True)
    for name in ("progress", "loss", "score", "device", "left"):
        shown.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        left = pace.remaining(line) if pace is not None else None
        shown.add_row(
            line.name,
            Text(line.stage, style=COLOURS.get(line.stage, "cyan")),
            f"{line.done}/{line.total}" if line.done is not None else "",
            f"{line.loss:.3f}" if line.loss is not None else "",
            f"{line.score:.3f}" if line.score is not None else "",
            ", ".join(line.devices),
            duration(left) if left is not None else "",
        )
    return shown


def most_telling(lines: list[Line], room: int) -> tuple[list[Line], str]:
    """Return the lines for which there is room, what runs and what failed before all others, and the rest in words."""
    if len(lines) <= room:
        return lines, ""
    still = ("failed", "trained", "waiting", "skipped", "done")
    urgency = {stage: number for number, stage in enumerate(still, 1)}
    by_urgency = sorted(range(len(lines)), key=lambda place: urgency.get(lines[place].stage, 0))
    shown, left_out = sorted(by_urgency[: max(room, 1)]), by_urgency[max(room, 1) :]
    rest = Counter(lines[place].stage for place in left_out)
    return [lines[place] for place in shown], "and " + ", ".join(f"{rest[stage]} {stage}" for stage in rest)


def words(line: Line, pace: Pace | None = None) -> str:
    """Return how a variant stands, in words."""
    parts = [line.stage]
    if line.done is not None:
        parts[0] += f" {line.done}/{line.total}"
    if line.loss is not None:
        parts.append(f"loss {line.loss:.3f}")
    if line.score is not None:
        parts.append(f"score {line.score:.3f}")
    left = pace.remaining(line) if pace is not None else None
    if left is not None:
        parts.append(f"{duration(left)} left")
    return f"{line.name}: {', '.join(parts)}"
