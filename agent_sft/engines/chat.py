"""Many requests at once to an OpenAI-compatible server, tried again with growing pauses where the server fails.

httpx is imported by whoever asks, most commands that could ask do not, and without its own command line: what that
shows answers with takes most of the time of importing it.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import orjson

from agent_sft.engines.endpoint import Refused
from agent_sft.engines.served import ServedModel

if TYPE_CHECKING:
    import httpx

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a request is tried again: doubled each time, half of it at random (so that not all come at once)."""
LONGEST_ASKED = 600.0
"""Seconds that a server may ask us to wait."""
AGAIN = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
"""Answers after which the same request can succeed."""
TOO_LONG = ("maximum context length", "context_length_exceeded", "longer than the maximum model length")


class ProviderFailed(Exception):
    """The server gave no answer that could be used, however often it was asked. Says nothing about the model."""


class ContextFull(Exception):
    """The conversation does not fit the model any more."""


@dataclass(frozen=True)
class Reply:
    """An answer of the model."""

    message: dict[str, Any]
    """With `content`, and `tool_calls` where it made some."""
    finish_reason: str | None
    input_tokens: int
    output_tokens: int


class ChatClient:
    """Asks one served model."""

    def __init__(self, model: ServedModel, *, connections: int, timeout: float, retries: int) -> None:
        """Prepare; use it in an `async with` block.

        Args:
            model: who is asked.
            connections: requests at the same time.
            timeout: seconds until an attempt that got no answer is given up.
            retries: attempts after the first.
        """
        _leave_out_command_line()
        import httpx

        self._model = model
        self._retries = retries
        self._not_before = 0.0
        self._ending = asyncio.Event()
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            headers=_headers(model.api_key),
            trust_env=_by_proxy(model.url),
        )

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._client.aclose()

    def end(self) -> None:
        """Try no request again: what is under way is the last attempt of each."""
        self._ending.set()

    async def complete(self, messages: list[dict[str, Any]], **options: Any) -> Reply:
        """Return the model's answer to a conversation.

        Args:
            messages: in the names of the OpenAI chat format.
            options: further fields of the request, such as `tools`, `temperature`, `max_tokens` and `seed`.

        Raises:
            ContextFull: the conversation is too long.
            ProviderFailed: no attempt got an answer, or the server refuses such requests.
        """
        import httpx

        body = orjson.dumps({"model": self._model.name, "messages": messages, **options})
        attempt = 0
        while True:
            again, pause, reason = True, None, ""
            await self._pause(self._not_before - time.monotonic())
            try:
                answer = await self._client.post(
                    f"{self._model.url}/chat/completions", content=body, headers={"Content-Type": "application/json"}
                )
            except httpx.TimeoutException:
                reason = "no answer in time"
            except httpx.HTTPError as error:
                reason = f"no connection: {type(error).__name__} {error}".rstrip()
            else:
                if answer.status_code == httpx.codes.OK:
                    reply = _reply(answer.content)
                    if reply is not None:
                        return reply
                    reason = f"not an answer: {_shown(answer.text)}"
                else:
                    if answer.status_code == httpx.codes.BAD_REQUEST and any(mark in answer.text for mark in TOO_LONG):
                        raise ContextFull
                    reason = f"HTTP {answer.status_code}: {_shown(answer.text)}"
                    again = answer.status_code in AGAIN
                    pause = _asked_pause(answer)
            attempt += 1
            if not again or attempt > self._retries or self._ending.is_set():
                tried = f" ({attempt} attempts)" if attempt > 1 else ""
                raise ProviderFailed(f"{reason}{tried}")
            if pause is None:
                await self._pause(pause_before(attempt))
            else:  # Its limit is for all requests: none goes out before, and then not all at once.
                self._not_before = max(self._not_before, time.monotonic() + pause)
                await self._pause(pause + min(1.0, pause) * random.random())  # noqa: S311 - as below

    async def _pause(self, seconds: float) -> None:
        """Wait, and no longer than there is an attempt to come."""
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), seconds)
        if self._ending.is_set():
            raise ProviderFailed("stopped before it was answered")


def pause_before(attempt: int) -> float:
    """Return the seconds to wait before the attempt with this number, counted from 1 for the second one."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * float(2 ** (attempt - 1)))
    return longest * (0.5 + random.random() / 2)  # noqa: S311 - it spreads requests, it hides nothing


def served_names(url: str, key: str, *, timeout: float = 10.0) -> list[str]:
    """Return the names of the models that an address serves.

    Args:
        url: up to `/v1`; https, and by way of the environment's proxy where it is not on this machine.
        key: sent with the request; may be empty.
        timeout: seconds.

    Raises:
        Refused: the server answered with another status than 200.
        OSError: nothing answers there, or not with a list of models.
    """
    _leave_out_command_line()
    import httpx

    try:
        with httpx.Client(timeout=timeout, trust_env=_by_proxy(url)) as client:
            answer = client.get(f"{url}/models", headers=_headers(key))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConnectionError(str(error) or type(error).__name__) from error
    if answer.status_code != httpx.codes.OK:
        raise Refused(answer.status_code, answer.text)
    try:
        return [str(entry["id"]) for entry in orjson.loads(answer.content)["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectionError("it is no list of models that it answers with") from error


def _leave_out_command_line() -> None:
    """Let httpx be imported as where rich is not installed."""
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _by_proxy(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1", "http://localhost"))


def _asked_pause(answer: httpx.Response) -> float | None:
    """Return the pause that the server asks for, in seconds or up to a date."""
    asked = answer.headers.get("Retry-After", "")
    try:
        seconds = float(asked) if asked[:1].isdigit() else parsedate_to_datetime(asked).timestamp() - time.time()
    except ValueError:
        return None
    return min(LONGEST_ASKED, max(0.0, seconds))


def _reply(content: bytes) -> Reply | None:
    try:
        value = orjson.loads(content)
        choice, usage = value["choices"][0], value.get("usage") or {}
        message = choice["message"]
        if not isinstance(message, dict) or not isinstance(message.get("content", ""), str | None):
            return None
        return Reply(
            message=message,
            finish_reason=choice.get("finish_reason"),
            input_tokens=int(usage.get("prompt_tokens") or 0),
            output_tokens=int(usage.get("completion_tokens") or 0),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _shown(text: str) -> str:
    """Return what a server says in a line: its own words where it wraps them as OpenAI does."""
    with suppress(ValueError, KeyError, TypeError):
        said = orjson.loads(text)["error"]["message"]
        text = said if isinstance(said, str) and said else text
    return " ".join(text.split())[:300]
