"""The two ways a command can fail, and how each is told to the user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path


class UserError(Exception):
    """Something the user can fix. The command line prints it without a traceback and exits 2.

    Args:
        what: what is wrong, in one sentence.
        where: the file, row, line or key concerned.
        fix: what to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  {self.fix}" if self.fix else head


class WorkFailed(Exception):
    """Work that was asked for correctly and failed. Exit 1, with the end of the engine's own log.

    Args:
        what: what failed.
        log: the engine's log; its last lines are shown with the message.
        fix: the remedy, where the cause is a known one.
    """

    exit_code = 1
    TAIL_LINES = 20

    def __init__(self, what: str, *, log: Path | None = None, fix: str | None = None) -> None:
        self.what = what
        self.log = log
        self.fix = fix
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.log is not None and self.log.is_file():
            text = self.log.read_bytes()[-65536:].decode("utf-8", "replace")
            tail = text.replace("\r", "\n").splitlines()[-self.TAIL_LINES :]
            lines += [f"  the end of {self.log}:", *(f"  | {line}" for line in tail)]
        if self.fix:
            lines.append(f"  {self.fix}")
        return "\n".join(lines)


def wrong_value(found: Mapping[str, object]) -> str:
    """Return what a model's validation found wrong with a value, and the value where it is short enough to be shown.

    Args:
        found: of `ValidationError.errors()`.
    """
    message = str(found["msg"]).removeprefix("Value error, ")
    given = found.get("input")
    shown = bool(found["loc"]) and isinstance(given, str | int | float | None) and "(given:" not in message
    return f"{message[:1].lower()}{message[1:]}" + (f" (given: {given})" if shown else "")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the known name closest to `name`, or an empty string."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else ""
