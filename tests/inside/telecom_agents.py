"""Runs the small telecom benchmark with agents that need no model, in Inspect itself.

Standard input: {"folder": of the benchmark, "agents": [names], "logs": folder, "arguments": {name: value}}, the
arguments those of the task. Result: {"agents": {name: [sample]}, "tools": [...], "system": text}, a sample being
{"id", "epoch", "score", "explanation", "metadata", "limit", "said"}, tools and system as the model got them.
"""

import json
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

from inspect_ai import eval as run
from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelOutput, ModelUsage, get_model
from inspect_ai.tool import ToolCall

order = json.load(sys.stdin)
sys.path.insert(0, order["folder"])

from expert import Turn, call, next_turn  # noqa: E402
from rules import POLICY  # noqa: E402

NUMBERS = count()
got: dict[str, Any] = {}


def turns_of(messages: list[Any]) -> list[Turn]:
    """Return a conversation as the expert reads it."""
    turns = []
    for message in messages:
        if message.role == "user":
            turns.append(Turn("human", message.text))
        elif message.role == "tool":
            turns.append(Turn("observation", message.text))
    return turns


def asked(messages: list[Any]) -> Turn:
    """Return what the expert would look up: a call with the customer's id."""
    return next_turn(turns_of(messages)[:1])


def meddles(messages: list[Any]) -> Turn:
    """Add a gigabyte to the customer before serving them as it should be."""
    if len(messages) == 2:
        customer = json.loads(asked(messages).value)["arguments"]["id"]
        return call("add_data", id=customer, gb=1)
    turns = turns_of(messages)
    return next_turn([turns[0], *turns[2:]])


def blind(messages: list[Any]) -> Turn:
    """Answer as the expert does, without having looked up: refuse everything."""
    return Turn("gpt", "I cannot.")


def errs(messages: list[Any]) -> Turn:
    """Make two calls that are refused, then serve as the expert does."""
    turns = turns_of(messages)
    results = sum(turn.role == "observation" for turn in turns)
    if results == 0:
        return call("get_customer", id="nobody")
    if results == 1:
        return call("get_customer", customer="C01")
    return next_turn([turns[0], *turns[3:]])


AGENTS: dict[str, Callable[[list[Any]], Turn]] = {
    "expert": lambda messages: next_turn(turns_of(messages)),
    "gives_in": lambda messages: next_turn(turns_of(messages), gives_in=True),
    "nothing": lambda messages: Turn("gpt", ""),
    "blind": blind,
    "meddles": meddles,
    "errs": errs,
    "loops": asked,
}


def model_of(agent: Callable[[list[Any]], Turn]) -> Any:
    """Return a model that does what an agent does."""

    def output(messages: list[Any], tools: list[Any], choice: Any, config: Any) -> ModelOutput:
        got.setdefault("tools", [tool.model_dump(exclude_none=True) for tool in tools])
        got.setdefault("system", messages[0].text)
        assert messages[0].text == POLICY
        turn = agent(messages)
        calls = None
        if turn.role == "function_call":
            made = json.loads(turn.value)
            calls = [ToolCall(id=f"call{next(NUMBERS)}", function=made["name"], arguments=made["arguments"])]
        message = ChatMessageAssistant(content="" if calls else turn.value, tool_calls=calls, source="generate")
        choice = ChatCompletionChoice(message=message, stop_reason="tool_calls" if calls else "stop")
        usage = ModelUsage(input_tokens=100, output_tokens=10, total_tokens=110)
        return ModelOutput(model="mockllm", choices=[choice], usage=usage)

    return get_model("mockllm/model", custom_outputs=output, memoize=False)


def told(sample: Any) -> dict[str, Any]:
    """Return what the tests ask of a sample."""
    score = sample.scores["verdict"]
    return {
        "id": sample.id,
        "epoch": sample.epoch,
        "score": score.value,
        "explanation": score.explanation,
        "metadata": score.metadata,
        "limit": sample.limit.type if sample.limit else None,
        "error": sample.error.message if sample.error else None,
        "said": [message.text for message in sample.messages if message.role == "user"],
    }


agents = {}
for name in order["agents"]:
    (log,) = run(
        order["folder"] + "/mini_telecom.py@mini_telecom",
        model=model_of(AGENTS[name]),
        task_args=order["arguments"],
        log_dir=order["logs"],
        display="none",
        log_realtime=False,  # a database of every event beside the log
        ctl_server=False,
    )
    assert log.status == "success", log.error.message
    agents[name] = [told(sample) for sample in log.samples]
print(json.dumps({"agents": agents, **got}), file=sys.__stdout__)
