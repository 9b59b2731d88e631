"""Which failures pass by themselves, so that the same job is worth another try, and how long to wait before it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from agent_sft.engines.failures import LOOKED_AT
from agent_sft.errors import UserError
from agent_sft.sweep.graph import Kind

BASE_SECONDS = 5.0
"""Pause before the first retry, where `AGENT_SFT_RETRY_SECONDS` does not say; each one after it is twice as long."""
BASE_VARIABLE = "AGENT_SFT_RETRY_SECONDS"
LONGEST_SECONDS = 300.0

_STAYS = (
    (r"No space left on device|no space left on the disk|\[Errno 28\]|Disk quota exceeded", "the disk is full"),
    (r"MemoryError|[Cc]annot allocate memory|can't allocate memory", "its own memory does not suffice"),
)
_PASSES = (
    (r"Address already in use|EADDRINUSE", "a port was taken"),
    # torch names the other process in its message only where there is one.
    (r"out of memory[^\n]*Process \d+ has [\d.]+ \wiB memory in use", "another process held the GPU's memory"),
    (r"CUDA out of memory|OutOfMemoryError", ""),
    (r"\(exit code (?:13[0-9]|143)\)|exitcode\s*:\s*-\d+|Signal \d+ \(SIG\w+\) received", "it was killed"),
    (
        r"ConnectionError|Connection (?:refused|reset)|couldn't connect to|Read timed out|"
        r"50[234] (?:Server Error|Service|Bad Gateway|Gateway)|Too Many Requests",
        "a service could not be reached",
    ),
)
"""In this order: what is found first is the cause. An empty cause does not pass."""


def passing_cause(kind: Kind, status: int, logs: Sequence[Path]) -> str | None:
    """Return why a job failed, in words, if that may be gone at the next try; None where it will fail again.

    Args:
        kind: of the job.
        status: its exit status.
        logs: what it and its engine wrote, of this attempt.
    """
    if status == UserError.exit_code:
        return None
    text = "\n".join(_end(log) for log in logs)
    if any(re.search(pattern, text) for pattern, _ in _STAYS):
        return None
    if status > 128:
        return f"killed by {_signal(status - 128)}"
    for pattern, cause in _PASSES:
        if re.search(pattern, text):
            return cause or None
    # An evaluation ends with 1 where trials have no score: what is wrong with the model is a score.
    return "trials could not be run" if kind in ("score", "evaluate") and status == 1 else None


def base_seconds() -> float:
    """Return the pause before the first retry.

    Raises:
        UserError: the variable holds no number.
    """
    text = os.environ.get(BASE_VARIABLE, "")
    try:
        return float(text) if text else BASE_SECONDS
    except ValueError as error:
        raise UserError(f"'{text}' is not a number of seconds", where=BASE_VARIABLE) from error


def pause(attempt: int, base: float) -> float:
    """Return the seconds to wait after the failed attempt of this number, counted from 1."""
    return min(base * float(2 ** (attempt - 1)), LONGEST_SECONDS)


def last_words(log: Path, lines: int = 12) -> list[str]:
    """Return the end of a log, without empty lines and what a progress bar wrote over itself."""
    words = [line.rpartition("\r")[2].rstrip() for line in _end(log).splitlines()]
    return [line for line in words if line][-lines:]


def _end(log: Path) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(max(log.stat().st_size - LOOKED_AT, 0))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
