"""Many requests at once to an OpenAI-compatible server, tried again with growing pauses where the server fails."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from agent_sft.engines.served import ServedModel

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a request is tried again: doubled each time, half of it at random (so that not all come at once)."""
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
        self._model = model
        self._retries = retries
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            headers={"Authorization": f"Bearer {model.api_key}"} if model.api_key else {},
            trust_env=not model.url.startswith(("http://127.0.0.1", "http://localhost")),
        )

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def complete(self, messages: list[dict[str, Any]], **options: Any) -> Reply:
        """Return the model's answer to a conversation.

        Args:
            messages: in the names of the OpenAI chat format.
            options: further fields of the request, such as `tools`, `temperature`, `max_tokens` and `seed`.

        Raises:
            ContextFull: the conversation is too long.
            ProviderFailed: no attempt got an answer, or the server refuses such requests.
        """
        body = orjson.dumps({"model": self._model.name, "messages": messages, **options})
        attempt = 0
        while True:
            again, pause, reason = True, None, ""
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
            if not again or attempt > self._retries:
                tried = f" ({attempt} attempts)" if attempt > 1 else ""
                raise ProviderFailed(f"{reason}{tried}")
            await asyncio.sleep(pause if pause is not None else pause_before(attempt))


def pause_before(attempt: int) -> float:
    """Return the seconds to wait before the attempt with this number, counted from 1 for the second one."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * float(2 ** (attempt - 1)))
    return longest * (0.5 + random.random() / 2)  # noqa: S311 - it spreads requests, it hides nothing


def _asked_pause(answer: httpx.Response) -> float | None:
    """Return the pause that the server asks for."""
    try:
        return min(LONGEST_PAUSE, max(0.0, float(answer.headers["Retry-After"])))
    except (KeyError, ValueError):
        return None


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
    return " ".join(text.split())[:300]
