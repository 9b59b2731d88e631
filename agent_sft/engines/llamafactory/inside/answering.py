"""Answers requests to an OpenAI-compatible address with a model that is being trained, many at a time.

Requests wait at a desk of the first process; all processes take each batch together, so that a model whose weights
are spread over them (ZeRO-3) can be run, and one that each of them holds whole is run on a part of the batch.
"""

import contextlib
import hashlib
import json
import queue
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
import torch.distributed as dist
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

TOGETHER_SECONDS = 0.03
"""So long a batch that is not full waits for a further request: what one answer frees asks again at once."""
PATIENCE_SECONDS = 0.2
CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


@dataclass
class Asked:
    """A request that waits for its answer."""

    body: dict[str, Any]
    answered: threading.Event = field(default_factory=threading.Event)
    status: int = 200
    answer: dict[str, Any] = field(default_factory=dict)

    def reply(self, status: int, answer: dict[str, Any]) -> None:
        """Let the one who asked go on."""
        self.status, self.answer = status, answer
        self.answered.set()


class Desk:
    """The address, and the requests that wait there."""

    def __init__(self, key: str) -> None:
        self.waiting: queue.Queue[Asked] = queue.Queue()
        desk = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if not secrets.compare_digest(self.headers.get("Authorization", ""), f"Bearer {key}"):
                    self.say(401, {"error": {"message": "no such key"}})
                    return
                asked = Asked(json.loads(body))
                desk.waiting.put(asked)
                asked.answered.wait()
                self.say(asked.status, asked.answer)

            def say(self, status: int, content: dict[str, Any]) -> None:
                text = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                with contextlib.suppress(OSError):  # whoever asked may have given up
                    self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def take(self, most: int) -> list[Asked]:
        """Return requests to answer together; none where nobody asks for a moment."""
        taken: list[Asked] = []
        with contextlib.suppress(queue.Empty):
            taken.append(self.waiting.get(timeout=PATIENCE_SECONDS))
            while len(taken) < most:
                taken.append(self.waiting.get(timeout=TOGETHER_SECONDS))
        return taken

    def close(self) -> None:
        """Answer whoever still waits with a refusal, and go."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.waiting.get_nowait().reply(503, {"error": {"message": "the training goes on"}})
        self._server.shutdown()
        self._server.server_close()


class Sampled(LogitsProcessor):  # type: ignore[misc]
    """Lets the likeliest token be a sampled one, each row by a generator of its own.

    The token with the highest logit / temperature + Gumbel noise is distributed as softmax(logits / temperature)
    (Gumbel 1954; Maddison et al. 2014, arXiv 1411.0030).
    """

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self._temperature = temperature
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores with noise."""
        size = scores.shape[-1]
        noise = torch.stack([torch.rand(size, generator=generator) for generator in self._generators])
        tiny = torch.finfo(torch.float32).tiny
        gumbel = -torch.log((-torch.log(noise.clamp_min(tiny))).clamp_min(tiny))
        return scores.float() / self._temperature + gumbel.to(scores.device)


class Answerer:
    """Generates answers with a model, on all processes together."""

    def __init__(self, model: Any, tokenizer: Any, *, bf16: bool, sharded: bool) -> None:
        """Prepare.

        Args:
            model: as the trainer has it.
            tokenizer: with the chat template that is saved with the model.
            bf16: whether it is trained in bfloat16.
            sharded: whether each process holds only a part of each weight.
        """
        self._model, self._tokenizer = model, tokenizer
        self._bf16, self._sharded = bf16, sharded
        self._together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        self.rank: int = dist.get_rank() if self._together else 0
        self.world: int = dist.get_world_size() if self._together else 1
        self._longest = int(getattr(model.config, "max_position_embeddings", 0) or 0)

    def until(self, finished: Callable[[], bool], desk: Desk | None, most: int) -> None:
        """Answer what is asked until the first process finds that all is answered; for all processes to call.

        Args:
            finished: asked by the first process.
            desk: of the first process; None on others.
            most: answers that are generated at the same time.
        """
        with self._resting():
            while True:
                taken = desk.take(most) if desk is not None else []
                orders = self._shared([self._order(one) for one in taken] if desk is not None else None)
                for places in _alike(orders):
                    answers = self._answers([orders[place] for place in places])
                    for place, answer in zip(places, answers, strict=True):
                        if taken:
                            taken[place].reply(200, answer)
                for one, order in zip(taken, orders, strict=False):
                    if "refused" in order:
                        one.reply(400, {"error": {"message": order["refused"]}})
                if self._shared(not taken and finished() if desk is not None else None):
                    return

    @contextlib.contextmanager
    def _resting(self) -> Iterator[None]:
        """Leave the training as it was: its mode, and its random numbers."""
        training, rng = self._model.training, torch.random.get_rng_state()
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        self._model.eval()
        try:
            yield
        finally:
            self._model.train(training)
            torch.random.set_rng_state(rng)
            if cuda is not None:
                torch.cuda.set_rng_state(cuda)

    def _shared(self, value: Any) -> Any:
        """Return the first process's value, on every process."""
        if not self._together:
            return value
        shared = [value]
        dist.broadcast_object_list(shared, src=0)
        return shared[0]

    def _order(self, asked: Asked) -> dict[str, Any]:
        body = asked.body
        try:
            text = self._tokenizer.apply_chat_template(
                [_message(message) for message in body["messages"]],
                tools=body.get("tools"),
                add_generation_prompt=True,
                tokenize=False,
            )
            prompt = list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        except Exception as error:  # a chat template refuses in words of its own
            return {"refused": f"{type(error).__name__}: {error}"}
        room = self._longest - len(prompt) if self._longest else 1 << 30
        if room < 1:
            return {"refused": f"{len(prompt)} tokens are longer than the maximum model length"}
        wanted = body.get("max_completion_tokens") or body.get("max_tokens") or 1024
        return {
            "prompt": prompt,
            "most": min(int(wanted), room),
            "temperature": float(body.get("temperature") or 0.0),
            "seed": int(body.get("seed") or 0),
            "tools": bool(body.get("tools")),
            "model": str(body.get("model", "")),
        }

    def _answers(self, orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the answers to requests that are sampled alike; each process generates its share."""
        mine = orders[self.rank :: self.world]
        # Every process must run a sharded model, if only to hand out its part of the weights.
        found = self._generated(mine or orders[:1]) if mine or self._sharded else []
        parts: list[Any] = [found[: len(mine)]]
        if self._together:
            parts = [None] * self.world
            dist.all_gather_object(parts, found[: len(mine)])
        answers: list[dict[str, Any]] = [{}] * len(orders)
        for rank, part in enumerate(parts):
            answers[rank :: self.world] = part
        return answers

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _generated(self, orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
        tokenizer, device = self._tokenizer, self._model.device
        ends = _end_tokens(self._model, tokenizer)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
        width = max(len(order["prompt"]) for order in orders)
        rows = [[pad] * (width - len(order["prompt"])) + order["prompt"] for order in orders]
        mask = [[0] * (width - len(order["prompt"])) + [1] * len(order["prompt"]) for order in orders]
        temperature = orders[0]["temperature"]
        noise = [Sampled(temperature, [order["seed"] for order in orders])] if temperature else []
        config = GenerationConfig(
            max_new_tokens=max(order["most"] for order in orders),
            do_sample=False,
            use_cache=True,
            eos_token_id=ends,
            pad_token_id=pad,
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            made = self._model.generate(
                input_ids=torch.tensor(rows, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=config,
                logits_processor=LogitsProcessorList(noise),
                synced_gpus=self._sharded and self.world > 1,
            )
        return [self._answer(order, row[width:].tolist(), ends) for order, row in zip(orders, made, strict=True)]

    def _answer(self, order: dict[str, Any], tokens: list[int], ends: list[int]) -> dict[str, Any]:
        end = next((place for place, token in enumerate(tokens) if token in ends), None)
        said = tokens[: order["most"]] if end is None or end >= order["most"] else tokens[:end]
        text = self._tokenizer.decode(said, skip_special_tokens=True)
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if order["tools"] and (calls := _calls(text)):
            message = {"role": "assistant", "content": text[: text.index("<tool_call>")].rstrip("\n") or None}
            message["tool_calls"] = calls
        stopped = end is not None and end < order["most"]
        reason = ("tool_calls" if "tool_calls" in message else "stop") if stopped else "length"
        usage = {"prompt_tokens": len(order["prompt"]), "completion_tokens": len(said) + stopped}
        return {
            "id": f"chatcmpl-{secrets.token_hex(8)}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": order["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": {**usage, "total_tokens": sum(usage.values())},
        }


def weights_digest(model: Any) -> str:
    """Return what tells the weights that are trained from other ones: a digest of sums over each of them."""
    parts = []
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            held = getattr(weight, "ds_tensor", weight).detach()  # under ZeRO-3 the part that this process holds
            total, size = held.sum(dtype=torch.float64), torch.linalg.vector_norm(held, dtype=torch.float64)
            parts.append(f"{name} {total.item().hex()} {size.item().hex()}")
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        digests: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(digests, digest)
        digest = hashlib.sha256(" ".join(digests).encode()).hexdigest()
    return f"sums:{digest}"


def _alike(orders: list[dict[str, Any]]) -> list[list[int]]:
    """Return the places of orders that can be generated together."""
    found: dict[tuple[float, int], list[int]] = {}
    for place, order in enumerate(orders):
        if "refused" not in order:
            found.setdefault((order["temperature"], order["most"]), []).append(place)
    return list(found.values())


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message as chat templates take it: the arguments of calls as objects, as a server hands them on."""
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        function = dict(call["function"])
        if isinstance(function.get("arguments"), str):
            with contextlib.suppress(ValueError):
                function["arguments"] = json.loads(function["arguments"])
        calls.append({**call, "function": function})
    return {**message, "content": message.get("content") or "", "tool_calls": calls}


def _calls(text: str) -> list[dict[str, Any]]:
    """Return the calls in a text, as the server's parser `hermes` reads them; none where one of them is damaged."""
    calls = []
    for body in CALL.findall(text):
        try:
            value = json.loads(body)
            function = {"name": value["name"], "arguments": json.dumps(value["arguments"], ensure_ascii=False)}
        except (ValueError, KeyError, TypeError):
            return []
        calls.append({"id": f"call_{secrets.token_hex(8)}", "type": "function", "function": function})
    return calls


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    known = getattr(model.generation_config, "eos_token_id", None)
    ends = [*(known if isinstance(known, list) else [known]), tokenizer.eos_token_id]
    return sorted({int(end) for end in ends if end is not None})
