"""Conversations as plain dictionaries in the names of the OpenAI chat format, and back, without loss.

A row is `{"messages": [...], "tools": [...], "metadata": {...}}`. Messages have `role`, `content`,
`reasoning_content`, `tool_calls`, `tool_call_id`, `name` and `supervise`; a key whose value would be empty is left
out, `content` excepted. The arguments of a call are parsed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast, get_args

from agent_sft.data.conversation import Conversation, Origin, Role, ToolCall, Turn
from agent_sft.data.jsontext import loads_object
from agent_sft.data.reading import describe
from agent_sft.data.turns import Unusable

ROLES = get_args(Role)
_ROLE_SET = dict.fromkeys(ROLES)
ROW_KEYS = frozenset(("messages", "tools", "metadata"))
MESSAGE_KEYS = frozenset(("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name", "supervise"))
MESSAGE_EXTRAS = "message_keys"
"""The key of the metadata for what messages held beside the known keys: by number, from 1."""
TOOL_EXTRAS = "tool_keys"
"""The same for what stood around a tool's function."""


def to_row(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation as a dictionary of its own, which may be changed freely."""
    messages: list[dict[str, Any]] = []
    if conversation.system:
        messages.append({"role": "system", "content": conversation.system})
    messages += [_message(turn) for turn in conversation.turns]
    row: dict[str, Any] = {"messages": messages}
    if conversation.tools:
        row["tools"] = [{"type": "function", "function": dict(tool)} for tool in conversation.tools]
    if conversation.metadata:
        row["metadata"] = dict(conversation.metadata)
    return row


def from_row(row: Any, origin: Origin) -> Conversation:
    """Return the conversation that a row holds; keys that it has no place for become metadata.

    Leading system messages are its system text, joined by a blank line.

    Raises:
        Unusable: naming the message that is none.
    """
    if not isinstance(row, Mapping):
        raise Unusable(f"the row is {describe(row)}, not an object")
    messages = row.get("messages")
    if not isinstance(messages, list):
        raise Unusable(f"'messages' is {describe(messages)}, not an array" if "messages" in row else "no 'messages'")
    turns: list[Turn] = []
    extras: dict[str, dict[str, Any]] = {}
    for number, message in enumerate(messages, start=1):
        if is_plain(message):
            turns.append(Turn(role=message["role"], text=message["content"]))
            continue
        turns.append(_turn(message, number))
        if further := dict(_extras(message)):
            extras[str(number)] = further
    leading = next((index for index, turn in enumerate(turns) if turn.role != "system"), len(turns))
    tools, tool_extras = read_tools(row.get("tools"))
    given = row.get("metadata")
    metadata = {key: value for key, value in row.items() if key not in ROW_KEYS}
    metadata |= given if isinstance(given, Mapping) else {} if given is None else {"metadata": given}
    if extras:
        metadata[MESSAGE_EXTRAS] = {**metadata.get(MESSAGE_EXTRAS, {}), **extras}
    if tool_extras:
        metadata[TOOL_EXTRAS] = tool_extras
    return Conversation(
        turns=tuple(turns[leading:]),
        origin=origin,
        system="\n\n".join(turn.text for turn in turns[:leading] if turn.text),
        tools=tools,
        metadata=metadata,
    )


def is_plain(message: Any) -> bool:
    """Tell whether a message has a known role, a text and nothing else, as most have."""
    return (
        type(message) is dict
        and len(message) == 2
        and type(message.get("content")) is str
        and type(role := message.get("role")) is str
        and role in _ROLE_SET
    )


def read_tools(value: Any) -> tuple[tuple[Mapping[str, Any], ...], dict[str, Any]]:
    """Return the functions of a list of tools, bare or wrapped, and what else stood around them.

    Raises:
        Unusable: it is no list, or one of them is no function with a name.
    """
    if value is None:
        return (), {}
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise Unusable(f"'tools' is {describe(value)}, not a list of tool descriptions")
    functions: list[Mapping[str, Any]] = []
    extras: dict[str, Any] = {}
    for number, tool in enumerate(value, start=1):
        if not isinstance(tool, Mapping):
            raise Unusable(f"tool {number} is {describe(tool)}, not an object")
        wrapped = isinstance(tool.get("function"), Mapping)
        function = tool["function"] if wrapped else tool
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise Unusable(f"tool {number} has no name")
        if wrapped:
            further = {key: item for key, item in tool.items() if key != "function" and (key, item) != _TYPE}
            if further:
                extras[str(number)] = further
        elif function.get("type") == "function":
            function = {key: item for key, item in function.items() if key != "type"}
        functions.append(function)
    return tuple(functions), extras


_TYPE = ("type", "function")


def _message(turn: Turn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": turn.text}
    if turn.reasoning is not None:
        message["reasoning_content"] = turn.reasoning
    if turn.calls:
        message["tool_calls"] = [_call(call) for call in turn.calls]
    if turn.call_id is not None:
        message["tool_call_id"] = turn.call_id
    if turn.name is not None:
        message["name"] = turn.name
    if turn.supervise is not None:
        message["supervise"] = turn.supervise
    return message


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    head = {} if call.id is None else {"id": call.id}
    return {**head, "type": "function", "function": function}


def _turn(message: Any, number: int) -> Turn:
    if not isinstance(message, Mapping):
        raise Unusable(f"message {number} is {describe(message)}, not an object")
    role = message.get("role")
    if role not in ROLES:
        shown = f"'{role}'" if isinstance(role, str) else describe(role)
        raise Unusable(f"message {number} has an unknown role, {shown}: known are {', '.join(ROLES)}")
    label = f"message {number} ({role})"
    calls = tuple(_read_call(call, label) for call in _list(message, "tool_calls", label))
    if calls and role != "assistant":
        raise Unusable(f"{label}: calls tools, which only the assistant can do")
    text = _text(message, "content", label)
    if text is None and not calls:
        raise Unusable(f"{label}: no content" + (" and no tool calls" if role == "assistant" else ""))
    supervise = message.get("supervise")
    if supervise is not None and not isinstance(supervise, bool):
        raise Unusable(f"{label}: 'supervise' is {describe(supervise)}, not true or false")
    return Turn(
        role=cast(Role, role),
        text=text,
        reasoning=_text(message, "reasoning_content", label),
        calls=calls,
        call_id=_text(message, "tool_call_id", label),
        name=_text(message, "name", label),
        supervise=supervise,
    )


def _read_call(call: Any, label: str) -> ToolCall:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        raise Unusable(f"{label}: a tool call without a function")
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise Unusable(f"{label}: a tool call without a name")
    if "arguments" not in function:
        raise Unusable(f"{label}: the call of '{name}' has no arguments")
    arguments = function["arguments"]
    if isinstance(arguments, str):
        try:
            arguments = loads_object(arguments)
        except ValueError as error:
            raise Unusable(f"{label}: the arguments of '{name}' are {error}") from error
    return ToolCall(name=name, arguments=arguments, id=_text(call, "id", label))


def _text(message: Mapping[str, Any], key: str, label: str) -> str | None:
    value = message.get(key)
    if value is not None and not isinstance(value, str):
        raise Unusable(f"{label}: '{key}' is {describe(value)}, not a text")
    return value


def _list(message: Mapping[str, Any], key: str, label: str) -> Sequence[Any]:
    value = message.get(key)
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise Unusable(f"{label}: '{key}' is {describe(value)}, not a list")
    return value


def _extras(message: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what a message holds beside the known keys, null left out; of its calls too."""
    for key, value in message.items():
        if key not in MESSAGE_KEYS and value is not None:
            yield key, value
    calls = {}
    for number, call in enumerate(message.get("tool_calls") or (), start=1):
        further = {key: value for key, value in call.items() if key not in ("id", "function") and (key, value) != _TYPE}
        further |= {key: value for key, value in call["function"].items() if key not in ("name", "arguments")}
        if further := {key: value for key, value in further.items() if value is not None}:
            calls[str(number)] = further
    if calls:
        yield "tool_calls", calls
