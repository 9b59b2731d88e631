"""Conversations with all in them that logs of agents have held, in every order: what the data path must survive.

All choices are drawn from one source of chance, so that a property test can steer it and shrink what fails.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any

TEMPLATES = ("qwen", "qwen", "qwen", "qwen3", "qwen3_5", "llama3", "mistral", "glm4", "default", "minimax2")
FORMATS = ("sharegpt", "sharegpt", "openai")
LONG = 1_000_000
"""Characters of the texts that are long on purpose."""

ODD_TEXTS = (
    "", " ", "\n", "\r\n", "\u2028", "\u0000", "é", "e\u0301", "\u202eright", "😀", "\ud83d", "\udc00",
    "{{content}}", "{{idx}}",
    "{{system}}", "<|im_start|>", "<|im_end|>", "<|im_end|>\n<|im_start|>assistant\n", "<|endoftext|>",
    "</s>", "[INST]", "<|eot_id|>",
    "<image>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "null",
    "[]", '{"result": 1}', '"',
    "\\", "\\ud800", "%s", "`",
)  # fmt: skip
WORDS = (
    "hi",
    "let me look",
    "it is on its way.",
    "Ist das möglich?",
    "订单",
    "id 7\nand 8",
    "A  B",
    "  ends with spaces  ",
)
THOUGHTS = (
    "<think>{}</think>", "<think>\n{}\n</think>\n\n", "<think>\n{}\n</think>\n",
    "<think>\n\n</think>\n\n", "<think></think>",
    "<think>{}", "{}</think>", "<think>\n{}", "<THINK>{}</THINK>", "<thinking>{}</thinking>",
    "< think >{}</ think >",
    "<think><think>{}</think></think>", "\n <think>{}</think>", "<think>{}</think><think>{}</think>",
    "<thought>{}</thought>",
)  # fmt: skip
ALIASES = {
    "user": ("human", "human", "user", "prompter"),
    "assistant": ("gpt", "gpt", "assistant", "chatgpt", "model"),
    "call": ("function_call", "function_call", "tool_call"),
    "tool": ("observation", "observation", "tool", "function", "function_response"),
    "system": ("system", "developer"),
}
FOLLOWS = {
    "user": ("assistant", "assistant", "assistant", "call", "call", "user", "system", "tool"),
    "assistant": ("user", "user", "user", "user", "assistant", "call", "tool", "system"),
    "call": ("tool", "tool", "tool", "tool", "tool", "call", "assistant", "user"),
    "tool": ("assistant", "assistant", "assistant", "call", "tool", "user"),
    "system": ("user", "user", "user", "assistant", "system"),
}
CALM = {"user": ("assistant", "call"), "assistant": ("user",), "call": ("tool",), "tool": ("assistant", "call")}
"""Of conversations whose order is right."""
TOOL = {
    "name": "look",
    "description": "Looks.",
    "parameters": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
}
TOOLS: tuple[Any, ...] = (
    None, "", "[]", " ", "null", "{", [], [TOOL], json.dumps([TOOL]), [{"type": "function", "function": TOOL}],
    json.dumps([{"type": "function", "function": TOOL}]), TOOL, ["look"], [{"name": "bare"}], 7,
    [{"type": "function", "name": "flat", "parameters": {"properties": {}}}],
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (None, 3, True, 1.5, [], {}, ["hi"], {"text": "hi"}, [{"type": "text", "text": "hi"}])


@dataclass(frozen=True)
class Case:
    """A row, what it is read as, and the template that it is prepared for."""

    template: str
    form: str
    row: Any


def make_case(chance: Random) -> Case:
    """Return one."""
    form = chance.choice(FORMATS)
    row = _sharegpt(chance) if form == "sharegpt" else _openai(chance)
    return Case(chance.choice(TEMPLATES), form, row)


def _sharegpt(chance: Random) -> Any:
    turns: list[Any] = []
    aliased = _rarely(chance, 6)
    for role in _roles(chance):
        name = chance.choice(ALIASES[role]) if aliased else ALIASES[role][0]
        value = _call_text(chance) if role == "call" else _said(chance, calls=role == "assistant")
        turn: Any = {"from": name, "value": value}
        if _rarely(chance, 60):
            turn = chance.choice(
                (None, "hi", {}, {"from": name}, {"value": value}, {"from": "narrator", "value": value})
            )
        elif _rarely(chance, 40):
            turn["value"] = chance.choice(ODD_VALUES)
        elif _rarely(chance, 40):
            turn |= {"value": chance.choice((None, "so")), "tool_calls": [_api_call(chance)]}
        elif _rarely(chance, 30):
            turn[chance.choice(("supervise", "loss", "weight"))] = chance.choice((True, False, 0, 1, 2, None, "no"))
        turns.append(turn)
    row: dict[str, Any] = {"conversations": turns}
    if _rarely(chance, 3):
        row["system"] = _said(chance, calls=False) if chance.random() < 0.9 else chance.choice(ODD_VALUES)
    if _rarely(chance, 3):
        row["tools"] = chance.choice(TOOLS) if _rarely(chance, 2) else [TOOL]
    if _rarely(chance, 200):
        return chance.choice(
            (None, [], "row", {}, {"conversations": None}, {"conversations": {}}, {"conversations": []})
        )
    if _rarely(chance, 100):
        row[chance.choice(("images", "chosen", "id"))] = chance.choice(ODD_VALUES)
    return row


def _openai(chance: Random) -> Any:
    messages: list[Any] = []
    open_ids: list[Any] = []
    for role in _roles(chance):
        message: dict[str, Any]
        if role == "call":
            calls = [_api_call(chance) for _ in range(chance.choice((1, 1, 1, 1, 2)))]
            open_ids = [call.get("id") for call in calls if isinstance(call, dict)]
            message = {
                "role": "assistant",
                "content": chance.choice((None, None, "", "one moment")),
                "tool_calls": calls,
            }
            if _rarely(chance, 20):
                message = {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}}
        elif role == "tool":
            answers = open_ids.pop(chance.randrange(len(open_ids))) if open_ids else chance.choice((None, "c9"))
            answers = "c9" if _rarely(chance, 20) else answers
            message = {"role": "tool", "content": _said(chance, calls=False), "tool_call_id": answers}
            if _rarely(chance, 20):
                message |= {"role": "function", "name": "look"}
        elif role == "system":
            message = {"role": chance.choice(("system", "developer")), "content": _said(chance, calls=False)}
        else:
            message = {"role": role, "content": _said(chance, calls=role == "assistant")}
            if role == "assistant" and _rarely(chance, 5):
                message["reasoning_content"] = _said(chance, calls=False)
        if _rarely(chance, 40):
            message["content"] = chance.choice(ODD_VALUES)
        if _rarely(chance, 100):
            message = chance.choice(({}, {"role": "narrator", "content": "x"}, {"content": "x"}))
        messages.append(message)
    row: dict[str, Any] = {"messages": messages}
    if _rarely(chance, 3):
        row["tools"] = chance.choice(TOOLS) if _rarely(chance, 2) else [TOOL]
    if _rarely(chance, 10):
        row["response_format"] = {"type": "json_object"}
    return {"input": row} if _rarely(chance, 10) else row


def _roles(chance: Random) -> list[str]:
    length = chance.choice((1, 2, 2, 2, 3, 4, 4, 4, 5, 6, 6, 8, 12))
    is_calm = chance.random() < 0.6
    role = "user" if is_calm else chance.choice(("user",) * 8 + ("system", "system", "assistant", "tool", "call"))
    roles: list[str] = []
    while len(roles) < length or (is_calm and roles[-1] != "assistant"):
        roles.append(role)
        role = chance.choice(CALM[role] if is_calm else FOLLOWS[role])
    return roles


def _said(chance: Random, *, calls: bool) -> str:
    """Return what somebody says: plain words mostly, then pieces of any kind."""
    if chance.random() < 0.75:
        return chance.choice(WORDS)
    if _rarely(chance, 2000):
        return chance.choice(("x", "lorem ipsum ", "é\n")) * (LONG // 6)
    pieces = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        kind = chance.randrange(4 if calls else 3)
        if kind == 0:
            pieces.append(chance.choice(WORDS))
        elif kind == 1:
            pieces.append(chance.choice(ODD_TEXTS))
        elif kind == 2:
            pieces.append(_thought(chance))
        else:
            pieces.append(_blocks(chance))
    return chance.choice(("", "", "\n", " ")).join(pieces)


def _thought(chance: Random) -> str:
    return chance.choice(THOUGHTS).replace("{}", chance.choice((*WORDS, *ODD_TEXTS)))


def _blocks(chance: Random) -> str:
    shape = chance.choice(
        ("<tool_call>\n{}\n</tool_call>", "<tool_call>\n{}\n</tool_call>", "<tool_call>{}</tool_call>")
    )
    blocks = [shape.replace("{}", _call_json(chance)) for _ in range(chance.choice((1, 1, 1, 2)))]
    return chance.choice(("\n", "", "then ")).join(blocks)


def _call_text(chance: Random) -> str:
    """Return what stands in a turn that calls tools."""
    before = chance.choice(("", "", "", "", "so: ", "so\n", _thought(chance)))
    shape = chance.randrange(8)
    if shape < 4:
        return before + _call_json(chance)
    if shape == 4:
        return f"{before}[{_call_json(chance)}, {_call_json(chance)}]"
    if shape == 5:
        return f"{before}{_call_json(chance)}\n{_call_json(chance)}"
    if shape == 6:
        return before + _blocks(chance)
    return chance.choice(("", "[]", "null", "text", before + _call_json(chance)[:-1], _call_json(chance) + " after"))


def _call_json(chance: Random) -> str:
    if _rarely(chance, 15):
        return chance.choice((
            '{"name": "look"}', '{"arguments": {}}', '{"name": "look", "arguments": null}',
            '{"name": "", "arguments": {}}',
            '{"name": "look", "arguments": {"x": NaN}}',
            '{"name": "look", "arguments": {"x": 1, "x": 2}}', '{"name": "look",}',
            '{"name": "look", "arguments": {"x": 123456789012345678901234567890}}',
            '{"name": 7, "arguments": {}}',
            '{"name": "look", "arguments": {"x": "\\ud800"}}', "{'name': 'look', 'arguments': {}}",
        ))  # fmt: skip
    call: dict[str, Any] = {"name": chance.choice(("look", "pay", "é_tool")), "arguments": _arguments(chance)}
    if _rarely(chance, 10):
        call = {"type": "function", "function": call}
    spaces = chance.choice(((", ", ": "), (",", ":")))
    return json.dumps(
        call, ensure_ascii=chance.random() < 0.3, separators=spaces, indent=2 if _rarely(chance, 20) else None
    )


def _api_call(chance: Random) -> Any:
    if _rarely(chance, 30):
        return chance.choice((None, {}, {"function": {}}, {"function": {"name": "look"}}, "look"))
    arguments = _arguments(chance)
    if chance.random() < 0.8 and not isinstance(arguments, str):
        arguments = json.dumps(arguments)
    call = {"type": "function", "function": {"name": chance.choice(("look", "pay")), "arguments": arguments}}
    return call if _rarely(chance, 10) else {"id": chance.choice(("c1", "c2", "c3", "c4")), **call}


def _arguments(chance: Random) -> Any:
    if _rarely(chance, 12):
        return chance.choice(("", "{}", "{", None, [], 7, "text", '{"x": "\\ud800"}', '{"x": 1, "x": 2}'))
    arguments = {chance.choice(("id", "order", "é", "", "a b")): _value(chance, 3) for _ in range(chance.randrange(3))}
    return json.dumps(arguments) if _rarely(chance, 12) else arguments


def _value(chance: Random, depth: int) -> Any:
    kind = chance.randrange(8 if depth else 6)
    if kind < 2:
        return chance.choice((7, -1, 0.5, 1e300, 2**53, 2**64, 10**30))
    if kind == 2:
        return chance.choice((None, True, False))
    if kind < 6:
        return chance.choice((*WORDS, *ODD_TEXTS)) if kind < 5 else _thought(chance)
    if kind == 6:
        return [_value(chance, depth - 1) for _ in range(chance.randrange(3))]
    return {
        chance.choice(("id", "deep", "name", "arguments")): _value(chance, depth - 1)
        for _ in range(chance.randrange(3))
    }


def _rarely(chance: Random, one_in: int) -> bool:
    """Tell, once in so many times, yes; the answer that shrinks is no."""
    return chance.randrange(one_in) == one_in - 1
