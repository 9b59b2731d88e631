"""Conversations up to an answer: what a served model is asked, and what the data says is right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import orjson

from agent_sft.data.conversation import Conversation
from agent_sft.data.jsontext import dumps
from agent_sft.data.rows import to_row
from agent_sft.data.transforms.merge_turns import merge_turns
from agent_sft.data.turns import Unusable
from agent_sft.evals.verifiers.contract import Answer, Call


@dataclass(frozen=True)
class Example:
    """A conversation up to an answer."""

    conversation: Conversation
    prompt: tuple[dict[str, Any], ...]
    answer: Answer
    """The reference."""
    expected: Any
    """What a verifier expects of an answer, by the reference."""

    @property
    def place(self) -> str:
        """Return where the conversation came from."""
        return f"{self.conversation.origin.file}, row {self.conversation.origin.row}"

    @property
    def key(self) -> str:
        """Return what two conversations share that ask the same."""
        options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
        asked = orjson.dumps([self.prompt, list(self.conversation.tools)], option=options)
        return sha256(asked).hexdigest()

    def as_task(self, verifier: dict[str, Any], family: str | None) -> dict[str, Any]:
        """Return the row of `tasks.jsonl`."""
        origin = self.conversation.origin
        tools = [{"type": "function", "function": dict(tool)} for tool in self.conversation.tools]
        return {
            "task_id": f"{Path(origin.file).stem}-{origin.row}",
            **({"family": family} if family is not None else {}),
            "messages": list(self.prompt),
            **({"tools": tools} if tools else {}),
            "verifier": verifier,
        }


def answers(conversation: Conversation) -> Iterator[tuple[int, Answer]]:
    """Yield what the assistant did between two turns of others, the last first, with the number of turns before it."""
    end = len(conversation.turns)
    while end:
        begin = end
        while begin and conversation.turns[begin - 1].role == "assistant":
            begin -= 1
        run = conversation.turns[begin:end]
        if run and begin and conversation.turns[begin - 1].role in ("user", "tool"):
            calls = tuple(Call(call.name, call.arguments) for turn in run for call in turn.calls)
            yield begin, Answer(text="\n".join(turn.text for turn in run if turn.text), calls=calls)
        end = begin - 1 if begin else 0


def prompt(conversation: Conversation, turns: int) -> Iterator[dict[str, Any]]:
    """Yield the first turns as an OpenAI-compatible server takes them: calls with ids, arguments as text.

    Turns of one speaker are joined as they are for training; reasoning is left out, as chat templates do.

    Raises:
        Unusable: there are more results than calls.
    """
    row = to_row(msgspec.structs.replace(conversation, turns=conversation.turns[:turns]))
    plain = [{key: value for key, value in message.items() if key in _KEPT} for message in row["messages"]]
    made = 0
    waiting: list[str] = []
    for message in merge_turns(plain):
        shown = {"role": message["role"], "content": message.get("content")}
        if calls := message.get("tool_calls"):
            waiting = [f"call_{made + number}" for number in range(1, len(calls) + 1)]
            made += len(calls)
            shown["tool_calls"] = [_api_call(call, name) for call, name in zip(calls, waiting, strict=True)]
        elif message["role"] == "tool":
            if not waiting:
                raise Unusable("holds more results than calls")
            shown["tool_call_id"] = waiting.pop(0)
        yield shown


_KEPT = ("role", "content", "tool_calls")


def _api_call(call: dict[str, Any], identity: str) -> dict[str, Any]:
    function = call["function"]
    arguments = dumps(function["arguments"])
    return {"id": identity, "type": "function", "function": {"name": function["name"], "arguments": arguments}}
