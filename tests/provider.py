"""A provider of models on this machine whose behaviour a test decides: answers, faults, silence."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "secret-key-of-the-test"

Request = dict[str, Any]
Answer = Callable[[Request], "str | dict[str, Any] | Fault"]


@dataclass(frozen=True)
class Fault:
    """Something else than an answer."""

    status: int = 500
    body: str = '{"error": {"message": "it went wrong"}}'
    headers: dict[str, str] = field(default_factory=dict)
    silence: float = 0.0
    """Seconds without any answer; then the connection is closed."""
    cut: bool = False
    """Whether the connection is closed in the middle of the body."""


class Provider:
    """The server; `answer` may be changed while it runs."""

    def __init__(self, answer: Answer, models: tuple[str, ...] = ("served",)) -> None:
        self.answer = answer
        self.models = models
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def die_after(self, requests: int) -> None:
        """Answer so many requests more; then break connections and refuse what comes."""
        answer, last = self.answer, len(self.requests) + requests

        def dies(request: Request) -> str | dict[str, Any] | Fault:
            if len(self.requests) > last:
                self._ended.set()
                return Fault(silence=0.1)
            return answer(request)

        self.answer = dies

    def close(self) -> None:
        """Go away as a server does that dies: the port is closed."""
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def _asked(self, request: Request) -> str | dict[str, Any] | Fault:
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return self.answer(request)
        finally:
            with self._lock:
                self._at_once -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self._allowed():
                    self._say(200, json.dumps({"data": [{"id": name} for name in provider.models]}))

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not self._allowed():
                    return
                found = provider._asked(request)
                if isinstance(found, Fault):
                    if found.silence:
                        provider._ended.wait(found.silence)
                        self.close_connection = True
                        return
                    self._say(found.status, found.body, found.headers, cut=found.cut)
                    return
                message = {"role": "assistant", **(found if isinstance(found, dict) else {"content": found})}
                self._say(200, json.dumps(completion(request, message)))

            def _allowed(self) -> bool:
                if provider._ended.is_set():
                    self.close_connection = True
                    return False
                if self.headers.get("Authorization") != f"Bearer {KEY}":
                    self._say(401, '{"error": {"message": "Incorrect API key provided"}}')
                    return False
                return True

            def _say(self, status: int, text: str, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
                body = text.encode()
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if cut else body)
                self.close_connection = self.close_connection or cut

            def log_message(self, *args: object) -> None:
                pass

        return Handler


def completion(request: Request, message: dict[str, Any]) -> dict[str, Any]:
    """A completion as OpenAI gives it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request["model"],
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": "tool_calls" if message.get("tool_calls") else "stop",
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def call(name: str, arguments: dict[str, Any], number: int = 1) -> dict[str, Any]:
    """A message with one tool call."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"content": None, "tool_calls": [{"id": f"call_{number}", "type": "function", "function": function}]}


@contextmanager
def provider(answer: Answer, models: tuple[str, ...] = ("served",)) -> Iterator[Provider]:
    """Run a provider for the time of a block."""
    server = Provider(answer, models)
    try:
        yield server
    finally:
        server.close()
