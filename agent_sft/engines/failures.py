"""Known ways an engine fails, recognised in its log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

LOOKED_AT = 262_144
"""Bytes at the end of a log that are looked at."""
KILLED = 128 + 9


def known_remedy(log: Path, known: Sequence[tuple[str, str]], said: str = "") -> str | None:
    """Return the remedy for the first known cause that a log tells.

    Args:
        log: the engine's output.
        known: patterns of causes, each with its remedy.
        said: more words of the engine, looked at first.
    """
    text = said + "\n" + log.read_bytes()[-LOOKED_AT:].decode("utf-8", "replace") if log.is_file() else said
    return next((fix for pattern, fix in known if re.search(pattern, text)), None)


def server_remedy(log: Path, known: Sequence[tuple[str, str]], exit_code: int, said: str = "") -> str | None:
    """Return what to do about a server that ended, if its log, words or exit code tell the cause.

    Args:
        log: the server's output.
        known: patterns of the engine's causes, each with its remedy.
        exit_code: 128 + signal number when a signal ended it.
        said: what it answered to a request.
    """
    found = known_remedy(log, known, said)
    if found is None and exit_code == KILLED:
        return "the system or somebody killed the server, most often because memory ran out: see `dmesg`"
    return found
