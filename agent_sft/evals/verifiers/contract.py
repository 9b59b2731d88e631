"""What a verifier is: an answer in, a score out, with parameters that are checked before anything runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from pydantic import BaseModel


class Call(msgspec.Struct, frozen=True):
    """A call of a tool."""

    name: str
    arguments: Any
    """Parsed; the text itself where it is no JSON."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model answered to a task."""

    text: str = ""
    """What it said last."""
    calls: tuple[Call, ...] = ()
    """The calls of tools that it made, in order."""
    messages: tuple[dict[str, Any], ...] = ()
    """The whole conversation, in the form of the OpenAI chat API."""


class Verdict(msgspec.Struct, frozen=True):
    """What a verifier found."""

    score: float
    """From 0 to 1."""
    reason: str | None = None
    """What is wrong with the answer, in a line."""


ACCEPTED = Verdict(1.0)


def rejected(reason: str) -> Verdict:
    """Return the verdict on a wrong answer."""
    return Verdict(0.0, reason)


class VerifierFailed(Exception):
    """The verifier itself failed: nothing is known about the answer, so it counts neither as right nor as wrong."""


class Config(BaseModel, extra="forbid"):
    """The parameters of a verifier."""


class Verifier(ABC):
    """Tells whether an answer is right. A subclass has a `Config` and `verify`."""

    Config: ClassVar[type[BaseModel]] = Config

    def __init__(self, **params: Any) -> None:
        self.config: Any = self.Config(**params)

    def prepare(self, folder: Path) -> None:  # noqa: B027 - most name nothing
        """Find what the parameters name, relative to the folder of the tasks.

        Raises:
            UserError: it is not there.
        """

    def judge(self, answer: Answer) -> Verdict:
        """Return what `verify` says of an answer.

        Whatever that raises is the verifier's failure: it may be anybody's.

        Raises:
            VerifierFailed: it could not be found out.
        """
        name = type(self).__name__
        try:
            found = self.verify(answer)
        except VerifierFailed:
            raise
        except Exception as error:
            raise VerifierFailed(f"{name} raised {type(error).__name__}: {error}") from error
        if not isinstance(found, Verdict):
            raise VerifierFailed(f"{name} returned {found!r}, which is no Verdict")
        return found

    @abstractmethod
    def verify(self, answer: Answer) -> Verdict:
        """Return whether an answer is right.

        Raises:
            VerifierFailed: it could not be found out.
        """


def excerpt(value: Any) -> str:
    """Return a value as people are told of it, in a line that is not long."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = " ".join(text.split())
    return f"'{text}'" if len(text) <= 80 else f"'{text[:77]}...'"
