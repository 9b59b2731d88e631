"""Turns every request away that does not carry the server's key.

vLLM itself guards the addresses below /v1 alone; /invocations, /metrics, /tokenize and those that exchange the
weights answer anybody. `--middleware agent_sft_guard.Guard` puts this in front of all of them. Where a
capability is served, it is put in front of conversations here too.
"""

import hmac
import os
from collections.abc import Awaitable, Callable
from typing import Any

from agent_sft_scaffold import Scaffold

OPEN = frozenset({"/health", "/ping"})
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        capability = os.environ.get("AGENT_SFT_CAPABILITY")
        self._app = app if capability is None else Scaffold(app, capability)
        self._expected = f"Bearer {os.environ['VLLM_API_KEY']}".encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 401."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        if hmac.compare_digest(given, self._expected):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            head = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 401, "headers": head})
            await send({"type": "http.response.body", "body": b'{"error": "the API key is missing or wrong"}'})
