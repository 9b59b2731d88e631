"""When going on makes no sense: the server is gone, or refuses everything."""

from __future__ import annotations

import re
import time
from pathlib import Path

from agent_sft.errors import UserError, WorkFailed
from agent_sft.evals.results import Trial
from agent_sft.stages.evaluators.contract import EvalRun

LOOK_SECONDS = 3.0
REFUSED = re.compile(r"\b(401|403)\b|invalid.api.key|incorrect API key|Unauthorized", re.IGNORECASE)


class Patience:
    """Counts trials in a row that could not be run; gives up when no other one would do better."""

    def __init__(self, run: EvalRun) -> None:
        self._run = run
        self._in_a_row = 0
        self._last = ""
        self._looked = time.monotonic()
        self.most = max(4, 2 * run.concurrency)
        """Trials in a row that may fail: what was under way when a server died, and as much again."""

    def saw(self, trial: Trial) -> None:
        """Take note of a trial that ended."""
        self._in_a_row = self._in_a_row + 1 if trial.error is not None else 0
        self._last = trial.error or ""

    def check(self, log: Path | None = None) -> None:
        """Give up where that is right.

        Args:
            log: of the engine, shown with the message.

        Raises:
            WorkFailed: the server is dead, or too many trials failed in a row.
            UserError: the server refuses the key.
        """
        if self._in_a_row and REFUSED.search(self._last):
            raise UserError(f"a server refuses the key: {self._last}", fix="check the key in the environment or .env")
        if self._in_a_row >= self.most:
            raise WorkFailed(
                f"{self._in_a_row} trials in a row could not be run: {self._last}",
                log=log,
                fix="once the cause is mended, the same command goes on",
            )
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            if (why := self._run.why_dead()) is not None:
                raise WorkFailed(why, fix="the same command goes on where it was")
