"""Simulations of tau2: what its result files hold, in 0.2 and in 1.x.

A row is one simulation, `{"simulation": {...}, "info": {...}, "tasks": [...]}`, or the simulation alone. The
agent's side is read: what the simulated user did with tools of its own, which the agent never saw, goes to the
metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_sft.data.conversation import Conversation, Origin
from agent_sft.data.formats import openai
from agent_sft.data.reading import describe
from agent_sft.data.turns import Unusable

NAME = "tau2"
MARKS = ("reward_info", "termination_reason")
MESSAGE_KEYS = ("role", "content", "tool_calls", "id", "requestor", "error", "reasoning_content", "tool_messages")


def recognise(row: Mapping[str, Any]) -> bool:
    """Tell whether a row is a simulation."""
    simulation = row.get("simulation", row)
    return isinstance(simulation, Mapping) and "messages" in simulation and any(mark in simulation for mark in MARKS)


def read(row: Any, origin: Origin) -> Conversation:
    """Read a simulation; its `reward`, `task_id` and `trial` stand in the metadata.

    The system text is the domain's policy, where the file has it; the tools are those it describes.

    Raises:
        Unusable: naming what cannot be used.
    """
    if not isinstance(row, Mapping):
        raise Unusable(f"the row is {describe(row)}, not an object")
    simulation = row.get("simulation", row)
    if not isinstance(simulation, Mapping) or not isinstance(simulation.get("messages"), list):
        raise Unusable("the simulation has no messages")
    messages, own = _agents_side(simulation["messages"])
    if not messages:
        raise Unusable("the simulation has no messages")
    reward_info = simulation.get("reward_info")
    metadata = {key: value for key, value in simulation.items() if key != "messages" and value is not None}
    if isinstance(reward_info, Mapping) and reward_info.get("reward") is not None:
        metadata["reward"] = reward_info["reward"]
    if own:
        metadata["user_tools"] = own
    environment = _environment(row)
    if environment.get("domain_name"):
        metadata["domain"] = environment["domain_name"]
    if (task := _task(row, simulation.get("task_id"))) is not None:
        metadata["task"] = task
    policy = environment.get("policy")
    if isinstance(policy, str) and policy.strip() and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": policy})
    tools = environment.get("tool_defs")
    made: dict[str, Any] = {"messages": messages, "metadata": metadata}
    if isinstance(tools, Mapping) and tools:
        tools = list(tools.values())
    if isinstance(tools, list) and tools:
        made["tools"] = tools
    return openai.read(made, origin)


def _agents_side(given: list[Any]) -> tuple[list[dict[str, Any]], list[Any]]:
    """Return the messages that the agent saw or wrote, and those of the user with its own tools."""
    messages: list[dict[str, Any]] = []
    own: list[Any] = []
    for number, message in enumerate(_flat(given), start=1):
        if not isinstance(message, Mapping):
            raise Unusable(f"message {number} is {describe(message)}, not an object")
        if message.get("is_audio"):
            raise Unusable(f"message {number} ({message.get('role')}): it is sound, not text")
        role, content = message.get("role"), message.get("content")
        if role == "tool" and message.get("requestor") == "user":
            own.append(message)
            continue
        calls = message.get("tool_calls") or []
        if role == "user" and calls:
            own.append(message)
            if not content:
                continue
            calls = []
        made = {key: value for key, value in message.items() if key not in MESSAGE_KEYS and value is not None}
        made |= {"role": role, "content": content}
        if isinstance(message.get("reasoning_content"), str):
            made["reasoning_content"] = message["reasoning_content"]
        if calls:
            made["tool_calls"] = [_call(call, number) for call in calls]
        if role == "tool":
            made |= {"tool_call_id": message.get("id") or None, "content": content if content is not None else ""}
            if message.get("error"):
                made["error"] = True
        messages.append(made)
    return messages, own


def _flat(given: list[Any]) -> list[Any]:
    """Return the messages with the results of several calls one by one."""
    flat: list[Any] = []
    for message in given:
        several = message.get("tool_messages") if isinstance(message, Mapping) else None
        flat += several if isinstance(several, list) else [message]
    return flat


def _call(call: Any, number: int) -> dict[str, Any]:
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        raise Unusable(f"message {number} (assistant): a tool call without a name")
    function = {"name": call["name"], "arguments": call.get("arguments")}
    head = {"id": call["id"]} if call.get("id") else {}
    return {**head, "type": "function", "function": function}


def _environment(row: Mapping[str, Any]) -> Mapping[str, Any]:
    info = row.get("info") if "simulation" in row else None
    found = info.get("environment_info") if isinstance(info, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _task(row: Mapping[str, Any], task_id: Any) -> Any:
    tasks = row.get("tasks") if "simulation" in row else None
    if not isinstance(tasks, list):
        return None
    return next((task for task in tasks if isinstance(task, Mapping) and task.get("id") == task_id), None)
