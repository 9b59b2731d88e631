"""Talking to an OpenAI-compatible server on this machine."""

from __future__ import annotations

import http.client
from typing import Any
from urllib.parse import urlsplit

import orjson

PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look a line up.",
        "parameters": {"type": "object", "properties": {"line": {"type": "string"}}, "required": ["line"]},
    },
}
"""A tool by which is seen whether tools reach the prompt."""


class Refused(Exception):
    """The server answered, and not with a success.

    Args:
        status: of HTTP.
        body: what it said.
    """

    def __init__(self, status: int, body: str) -> None:
        self.status = status
        self.body = body
        super().__init__(f"HTTP {status}: {body[:500]}")


class Endpoint:
    """One server's address with its key. No proxy of the environment stands between."""

    def __init__(self, url: str, api_key: str) -> None:
        """Note where the server is.

        Args:
            url: `http://HOST:PORT/v1`.
            api_key: goes into every request's header.
        """
        place = urlsplit(url)
        self._host, self._port = place.hostname or "127.0.0.1", place.port
        self._key = api_key

    def call(self, method: str, path: str, body: Any = None, *, timeout: float = 60.0) -> Any:
        """Make one request and return the decoded answer, None where it is empty or no JSON.

        Args:
            method: of HTTP.
            path: from the root, `/v1/models`.
            body: JSON-able.
            timeout: seconds.

        Raises:
            Refused: the server answered with another status than 200.
            OSError: nothing answers there, or not in time.
        """
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        try:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else orjson.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"no HTTP answer: {error!r}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise Refused(answer.status, text.decode("utf-8", "replace"))
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return None

    def models(self) -> list[str]:
        """Return the names that requests may use."""
        answer = self.call("GET", "/v1/models", timeout=10)
        return [str(entry["id"]) for entry in answer["data"]] if isinstance(answer, dict) else []

    def complete_one_token(self, model: str, *, tools: bool) -> int:
        """Have one token completed and return how many tokens its prompt had.

        Args:
            model: its name.
            tools: whether the request carries a tool.
        """
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 1,
            "temperature": 0,
        }
        if tools:
            body |= {"tools": [PROBE_TOOL]}
        answer = self.call("POST", "/v1/chat/completions", body, timeout=600)
        return int(answer["usage"]["prompt_tokens"])


def refuses_without_key(url: str) -> bool:
    """Tell whether the server turns away a request with another key than its own."""
    try:
        Endpoint(url, "not-the-key").call("GET", "/v1/models", timeout=10)
    except Refused as refused:
        return refused.status in (401, 403)
    return False
