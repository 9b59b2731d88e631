"""Puts a capability before every conversation that a request carries: its system prompt and its tools.

They take the place of those that a request has, as they took the place of those that a training's data had. Requests
that name the base model beside an adapter are left as they are: that is who plays a customer, say.
"""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

PATHS = frozenset({"/v1/chat/completions", "/tokenize"})
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def scaffolded(body: dict[str, Any], capability: dict[str, Any]) -> dict[str, Any]:
    """Return a request with the capability's system prompt and tools in place of its own."""
    messages = body["messages"]
    prompt, tools = capability["system_prompt"], capability["tools"]
    if prompt is not None:
        count = next((at for at, message in enumerate(messages) if message.get("role") != "system"), len(messages))
        messages = [{"role": "system", "content": prompt}, *messages[count:]]
    return {**body, "messages": messages, **({"tools": tools} if tools is not None else {})}


class Scaffold:
    """An ASGI application around another one."""

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]], file: str) -> None:
        """Read the capability.

        Args:
            app: what answers.
            file: JSON with `system_prompt`, `tools`, and the names of models that are `left_alone`.
        """
        self._app = app
        self._capability = json.loads(Path(file).read_text(encoding="utf-8"))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, with the capability in front of its conversation if it has one."""
        if scope["type"] != "http" or scope["path"] not in PATHS:
            await self._app(scope, receive, send)
            return
        content, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # whoever asked has gone
            content, more = content + message.get("body", b""), message.get("more_body", False)
        content = self._with_capability(content)
        headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-length"]
        headers.append((b"content-length", str(len(content)).encode()))
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": content, "more_body": False}

        await self._app({**scope, "headers": headers}, again, send)

    def _with_capability(self, content: bytes) -> bytes:
        """Return a request's body changed, or as it is where it is no conversation: vLLM says what is wrong with it."""
        try:
            body = json.loads(content)
        except ValueError:
            return content
        if not isinstance(body, dict) or body.get("model") in self._capability["left_alone"]:
            return content
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            return content
        return json.dumps(scaffolded(body, self._capability)).encode()
