"""Doing again and again what takes longer the more there is, without spending the time on it."""

from __future__ import annotations

import time


class Sparing:
    """Measures something that is done again and again, and tells whether it can be done once more."""

    SHARE = 0.05
    """Of the time, that it may take."""

    def __init__(self) -> None:
        """Nothing was done yet."""
        self._began = self._ended = float("-inf")

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._ended = time.monotonic()

    @property
    def since(self) -> float:
        """Seconds since it was done last."""
        return time.monotonic() - self._ended

    @property
    def cheap(self) -> bool:
        """Whether doing it now, and taking as long as last time, it takes no more than its share of the time."""
        return self._ended == float("-inf") or self.since * self.SHARE > self._ended - self._began
