"""A process that stands between whoever asks and the teacher: it keeps answers, holds ceilings, waits for rate limits.

It outlives the command that started it by as long as requests are under way: what they bring is paid for, and is kept.
So a command that is killed loses no answer. It takes no new requests then.

Standard input holds the order, one line of JSON; its end is the end of the command. Standard output gets one line, the
port.
"""

from __future__ import annotations

import asyncio
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import orjson

from agent_sft.config.secrets import without_secrets
from agent_sft.distill.answers import Answers
from agent_sft.distill.purse import CeilingReached, Ceilings, Purse
from agent_sft.engines.chat import ChatClient, ContextFull, ProviderFailed, Reply
from agent_sft.engines.served import known_by_address
from agent_sft.errors import UserError
from agent_sft.files import digest_value

NOT_ANSWERED, CEILING, TOO_LONG, NOT_KEPT = 424, 402, 400, 507
"""What a request gets in place of an answer. None of them is a status after which clients try again."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway is started with."""

    folder: str
    """Where the answers are kept."""
    reuse: tuple[str, ...]
    url: str
    """Of the teacher."""
    name: str
    api_key: str
    identity: str
    """What tells this teacher from others: answers of another one do not count."""
    own_key: str
    """What those who ask must know."""
    connections: int
    timeout: float
    retries: int
    request: dict[str, Any]
    """Further fields of every request; null takes one away."""
    ceilings: Ceilings


class Status(msgspec.Struct, kw_only=True):
    """How far it is."""

    asked: int = 0
    """Requests that the teacher answered since the gateway was started."""
    kept: int = 0
    """Requests for which there was an answer already."""
    under_way: int = 0
    input_tokens: int = 0
    """Of all answers in the folder."""
    output_tokens: int = 0
    ended_by: str | None = None
    """The ceiling that was reached, or why answers can no longer be kept."""


class Gateway:
    """Answers requests from what is kept, else from the teacher."""

    def __init__(self, order: Order, client: ChatClient) -> None:
        self._order = order
        self._client = client
        self._answers = Answers(Path(order.folder), map(Path, order.reuse))
        self._purse = Purse(order.ceilings, self._answers.spent)
        self._under_way: dict[str, asyncio.Task[Reply]] = {}
        self._status = Status()
        self._ending = False

    def status(self) -> Status:
        """Return how far it is."""
        spent = self._answers.spent
        self._status.input_tokens, self._status.output_tokens = spent.input_tokens, spent.output_tokens
        self._status.under_way = len(self._under_way)
        self._status.ended_by = self._status.ended_by or self._purse.reached
        return self._status

    async def answer(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return the status and the body of the answer to a request for a completion."""
        body = {**asked, **self._order.request}
        body = {name: value for name, value in body.items() if value is not None and name != "model"}
        key = digest_value({"teacher": self._order.identity, **body})
        if (reply := self._answers.get(key)) is not None:
            self._status.kept += 1
            return 200, _completion(reply)
        if self._ending:
            return _said(NOT_ANSWERED, "stopped before it was asked")
        if key not in self._under_way:
            task = asyncio.create_task(self._ask(key, body))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        try:
            reply = await asyncio.shield(self._under_way[key])
        except ContextFull:
            return _said(TOO_LONG, "context_length_exceeded: the conversation is longer than the teacher's context")
        except CeilingReached as reached:
            return _said(CEILING, f"not asked: {reached}")
        except ProviderFailed as failure:
            return _said(NOT_ANSWERED, without_secrets(str(failure), [self._order.api_key]))
        except UserError as error:
            self._status.ended_by = str(error)
            return _said(NOT_KEPT, str(error))
        return 200, _completion(reply)

    async def drain(self) -> None:
        """Take nothing more; wait until all that is under way has come in, or has failed."""
        self._ending = True
        self._client.end()
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))

    async def _ask(self, key: str, body: dict[str, Any]) -> Reply:
        messages = body["messages"]
        size = len(orjson.dumps(body))
        longest = max((int(body.get(name) or 0) for name in ("max_tokens", "max_completion_tokens")), default=0)
        async with self._purse.hold(size, longest):
            if self._ending or self._status.ended_by:
                raise ProviderFailed(self._status.ended_by or "stopped before it was asked")
            reply = await self._client.complete(
                messages, **{name: value for name, value in body.items() if name != "messages"}
            )
            if not reply.input_tokens and not reply.output_tokens:  # it does not say: the most that it can have been
                reply = Reply(reply.message, reply.finish_reason, self._purse.tokens_of(size), longest)
            else:
                self._purse.saw(size, reply.input_tokens)
            self._answers.add(key, reply)
        self._status.asked += 1
        return reply


def _completion(reply: Reply) -> dict[str, Any]:
    total = reply.input_tokens + reply.output_tokens
    usage = {"prompt_tokens": reply.input_tokens, "completion_tokens": reply.output_tokens, "total_tokens": total}
    choice = {"index": 0, "message": {"role": "assistant", **reply.message}, "finish_reason": reply.finish_reason}
    kind = {"id": "chatcmpl-kept", "object": "chat.completion", "created": 0, "model": "teacher"}
    return {**kind, "choices": [choice], "usage": usage}


def _said(status: int, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message, "type": "distillation", "code": status}}


def _handler(gateway: Gateway, own_key: str, loop: asyncio.AbstractEventLoop) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Say how far it is."""
            if self._allowed():
                self._answer(200, msgspec.to_builtins(gateway.status()))

        def do_POST(self) -> None:
            """Answer a request for a completion."""
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self._allowed():
                future = asyncio.run_coroutine_threadsafe(gateway.answer(orjson.loads(content)), loop)
                self._answer(*future.result())

        def _allowed(self) -> bool:
            if self.headers.get("Authorization") == f"Bearer {own_key}":
                return True
            self._answer(*_said(401, "this is not the key"))
            return False

        def _answer(self, status: int, content: object) -> None:
            body = orjson.dumps(content)
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # whoever asked is gone; the answer is kept
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


async def serve(order: Order) -> None:
    """Serve until standard input ends, and then until nothing is under way."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    teacher = known_by_address(order.name, order.url, order.api_key)
    async with ChatClient(
        teacher, connections=order.connections, timeout=order.timeout, retries=order.retries
    ) as client:
        gateway = Gateway(order, client)
        server = _Server(("127.0.0.1", 0), _handler(gateway, order.own_key, loop))
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        sys.stdout.write(f"{server.server_address[1]}\n")
        sys.stdout.flush()

        def wait_for_end() -> None:
            sys.stdin.buffer.read()
            loop.call_soon_threadsafe(ended.set)

        Thread(target=wait_for_end, daemon=True).start()
        await ended.wait()
        await gateway.drain()
        server.shutdown()


def main() -> int:
    """Read the order and serve."""
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return 0  # who started us is gone already
    order = msgspec.json.decode(line, type=Order)
    try:
        asyncio.run(serve(order))
    except UserError as error:
        sys.stdout.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
