"""A server for a model that does nothing: what a benchmark gives such an agent is the floor of its scores."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from agent_sft.engines.served import ServedModel, known_by_address

AGENT = "does-nothing"
CUSTOMER = "leaves-at-once"
"""The names it answers to: the agent with an empty text, the customer with tau2's word for leaving."""

SAID = {AGENT: "", CUSTOMER: "###STOP###"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """List the two models."""
        self._answer({"object": "list", "data": [{"id": name, "object": "model"} for name in SAID]})

    def do_POST(self) -> None:
        """Answer a request for a completion with nothing."""
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        name = asked.get("model", AGENT)
        message = {"role": "assistant", "content": SAID.get(name, "")}
        self._answer(
            {
                "id": f"chatcmpl-{secrets.token_hex(8)}",
                "object": "chat.completion",
                "created": 0,
                "model": name,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )

    def _answer(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def serve_nothing() -> Iterator[ServedModel]:
    """Serve, at an address of this machine, an agent that does nothing and a customer who leaves."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield known_by_address(AGENT, f"http://127.0.0.1:{server.server_address[1]}/v1", secrets.token_hex(16))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
