"""What jobs say and make: logs, metrics, artifacts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent_sft.errors import UserError
from agent_sft.files import read_lines
from agent_sft.jobs.alive import is_alive
from agent_sft.jobs.record import Attempt, attempts_of
from agent_sft.stages.callbacks.local_logger import METRICS, TRAINERS

FOLLOW_SECONDS = 0.3
TRAINER_LOG = "trainer_log.jsonl"


def attempt_of(run: Path, number: int | None) -> Attempt:
    """Return an attempt at a job, the newest when no number is given.

    Raises:
        UserError: there is no such attempt.
    """
    attempts = attempts_of(run)
    found = [one for one in attempts if number is None or one.number == number]
    if not found:
        known = ", ".join(str(one.number) for one in attempts) or "none"
        raise UserError(f"there is no attempt {number}", where=str(run), fix=f"there are: {known}")
    return found[-1]


def log_lines(run: Path, *, attempt: int | None = None, follow: bool = False) -> Iterator[str]:
    """Yield the lines that a job said.

    Args:
        run: the run's directory.
        attempt: which attempt; the newest when None.
        follow: go on until the job has ended.

    Raises:
        UserError: there is no such attempt.
    """
    follower = LogFollower(attempt_of(run, attempt).log)
    while True:
        lives = follow and is_alive(run)
        yield from follower.lines(whole=lives)
        if not lives:
            return
        time.sleep(FOLLOW_SECONDS)


class LogFollower:
    """Reads a log as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0

    def lines(self, *, whole: bool = True) -> list[str]:
        """Return the lines that were added since the last call.

        Args:
            whole: leave a line for the next call that is still being written.
        """
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._place)
                content = stream.read()
        except FileNotFoundError:
            return []
        taken = content[: content.rfind(b"\n") + 1] if whole else content
        self._place += len(taken)
        return taken.decode("utf-8", "replace").splitlines()


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """Return what was measured, one entry for each step with a figure: losses, learning rate, scores of benchmarks.

    Of a step that was done again after a checkpoint, the last time counts.
    """
    found: dict[int, dict[str, Any]] = {}
    for line in read_lines(run / TRAINER_LOG):
        if isinstance(step := line.pop("current_steps", None), int):
            kept = {key: value for key, value in line.items() if key in ("loss", "eval_loss", "lr", "epoch")}
            found.setdefault(step, {"step": step}).update(kept)
    for line in read_lines(run / METRICS):
        if isinstance(step := line.get("step"), int) and line.get("split") not in TRAINERS:
            found.setdefault(step, {"step": step}).update(line.get("metrics") or {})
    return [found[step] for step in sorted(found)]
