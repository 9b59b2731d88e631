"""The policy and the tools that the agent is served with stand before every conversation, each of them once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, PrivateAttr, model_validator

from agent_sft.data.transforms.chat import Message, messages_of
from agent_sft.data.transforms.contract import Outcome, Row, RowTransform, noted
from agent_sft.data.transforms.registry import register_transform
from agent_sft.errors import UserError

HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>"
)


class Config(BaseModel, extra="forbid"):
    """What stands before every conversation; what is not given stays as the row has it."""

    policy: Path | None = None
    """A text file: the system text, in place of any that the row has."""
    tools: Path | None = None
    """A JSON file with a list of tools, in place of those that the row has."""
    show_tools: Literal["column", "text"] = "column"
    """`column`: the template renders them, in training and when served. `text`: they are written into the system
    text, as the Hermes family of templates writes them, for a server that is given no tools."""

    _policy: str | None = PrivateAttr(None)
    _tools: list[Any] | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _reads(self) -> Config:
        if self.policy is not None:
            self._policy = read_policy(self.policy)
        if self.tools is not None:
            self._tools = read_tools(self.tools)
        return self


@register_transform("system_prompt")
class SystemPrompt(RowTransform):
    """Sets the system text and the tools, also where a row has neither; tools never stand in both places."""

    name = "system_prompt"
    row_by_row = True
    Config = Config

    def __init__(self, **params: object) -> None:
        self.config = Config.model_validate(params)

    def change(self, row: Row) -> Row | Outcome:
        """Return the row with its system text and tools."""
        changed, notes = system_prompt(
            row, self.config._policy, self.config._tools, in_text=self.config.show_tools == "text"
        )
        return noted(changed, *notes) if notes else changed


def system_prompt(
    row: Row, policy: str | None, tools: list[Any] | None, *, in_text: bool = False
) -> tuple[Row, list[str]]:
    """Return the row with one system message at most, in front, and what was done beside replacing the texts.

    Args:
        row: the row; its leading system messages are taken as one text.
        policy: the system text; None keeps the row's.
        tools: the tools; None keeps the row's.
        in_text: write the tools into the text instead of leaving them to the template.
    """
    messages = messages_of(row)
    count = next((index for index, message in enumerate(messages) if message["role"] != "system"), len(messages))
    own = "\n".join(message.get("content") or "" for message in messages[:count])
    text = own if policy is None else policy
    shown = (row.get("tools") or []) if tools is None else tools
    notes = []
    if shown and (bare := without_tools(text)) != text:
        text = bare
        notes.append("took tools out of the system text, which stood there a second time")
    if in_text and shown:
        text = f"{text}\n\n{render_tools(shown)}" if text else render_tools(shown)
        shown = []
    first: list[Message] = [{"role": "system", "content": text}] if text else []
    same_text = count == len(first) and own == text
    if same_text and shown == (row.get("tools") or []):
        return row, notes
    return {**row, "messages": messages if same_text else [*first, *messages[count:]], "tools": shown}, notes


def render_tools(tools: list[Any]) -> str:
    """Return tools as the Hermes family of templates shows them after the system text."""
    wrapped = (
        tool if isinstance(tool, dict) and tool.get("type") == "function" else {"type": "function", "function": tool}
        for tool in tools
    )
    return HEAD + "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in wrapped) + TAIL


def without_tools(text: str) -> str:
    """Return a system text without tools written into it as `render_tools` does."""
    start = text.find(HEAD)
    end = text.find(TAIL, start)
    if start < 0 or end < 0:
        return text
    return text[:start].rstrip("\n") + text[end + len(TAIL) :]


def read_policy(path: Path) -> str:
    """Return a policy's text, without line breaks at its end.

    Raises:
        UserError: there is none to read.
    """
    text = _read(path).rstrip("\n")
    if not text.strip():
        raise UserError("the policy is empty", where=str(path))
    return text


def read_tools(path: Path) -> list[Any]:
    """Return the tools of a JSON file.

    Raises:
        UserError: it is no list of tools with names.
    """
    try:
        tools = json.loads(_read(path))
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}, column {error.colno}"
        raise UserError(f"not JSON: {error.msg}", where=where) from error
    if not isinstance(tools, list) or not tools:
        raise UserError("must hold a list of tools", where=str(path))
    for number, tool in enumerate(tools, start=1):
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UserError(f"tool {number} has no name", where=str(path))
    return tools


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError("no such file", where=str(path)) from error
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise UserError("is not UTF-8 text", where=str(path)) from error
