"""The report, made anew while the sweep goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from agent_sft.errors import UserError, WorkFailed
from agent_sft.sweep.sparing import Sparing


class Reports:
    """Makes the report beside the work, one at a time; a report that cannot be made stops nothing."""

    def __init__(self, folder: Path, write: Callable[[Path, bool], object], say: Callable[[str], None]) -> None:
        """Get ready.

        Args:
            folder: of the sweep.
            write: makes the report of the folder, with all that belongs beside it or without.
            say: is told what goes wrong.
        """
        self._folder = folder
        self._write = write
        self._say = say
        self._pool = ThreadPoolExecutor(1, "report")
        self._last: Future[object] | None = None
        self._making = Sparing()

    @property
    def cheap(self) -> bool:
        """Whether another one now would take little of the time."""
        return self._making.cheap

    def order(self, *, complete: bool = False) -> None:
        """Have it made anew of what is known from now on; at the end `complete`, with all that belongs beside it."""
        if complete or self._last is None or self._last.running() or self._last.done():
            self._tell()
            self._last = self._pool.submit(self._make, complete)

    def wait(self) -> None:
        """Wait until all that was ordered is made."""
        self._pool.shutdown(wait=True)
        self._tell()

    def _make(self, complete: bool) -> None:
        with self._making:
            self._write(self._folder, complete)

    def _tell(self) -> None:
        if self._last is not None and self._last.done() and (error := self._last.exception()) is not None:
            if not isinstance(error, (UserError, WorkFailed, OSError)):
                raise error
            self._say(f"the report cannot be made: {error}")
            self._last = None
