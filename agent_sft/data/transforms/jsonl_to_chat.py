"""Raw rows of any shape become chats by templates."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any, Literal

from pydantic import BaseModel, field_validator

from agent_sft.data.transforms.chat import json_text
from agent_sft.data.transforms.contract import ORIGIN, Row, RowTransform
from agent_sft.data.transforms.registry import register_transform
from agent_sft.data.turns import Unusable
from agent_sft.errors import UserError, nearest


class Config(BaseModel, extra="forbid"):
    """The templates. `{key}` is replaced by the row's value, `{key.inner}` reaches into objects, `{{` is a brace."""

    user_template: str
    """What the user says."""
    assistant_template: str
    """What the assistant answers."""
    system_prompt: str | None = None
    """A system text, the same for all rows: not a template."""
    on_missing: Literal["error", "reject"] = "error"
    """Whether a row that lacks a key ends the run, or is a reject."""

    @field_validator("user_template", "assistant_template")
    @classmethod
    def _parses(cls, template: str) -> str:
        for _, key, form, conversion in Formatter().parse(template):
            if key is not None and (not key or form or conversion):
                raise ValueError(f"a key stands in braces by itself: {{name}}, not '{{{key or ''}...}}'")
        return template


@register_transform("jsonl_to_chat")
class JsonlToChat(RowTransform):
    """Renders each raw row as one exchange; everything that the row held is kept as metadata."""

    name = "jsonl_to_chat"
    row_by_row = True
    Config = Config

    def __init__(self, **params: object) -> None:
        self.config = Config.model_validate(params)

    def change(self, row: Row) -> Row:
        """Return the chat that the templates make of a row."""
        try:
            return jsonl_to_chat(
                row, self.config.user_template, self.config.assistant_template, self.config.system_prompt
            )
        except Unusable as unusable:
            if self.config.on_missing == "reject":
                raise
            keys = ", ".join(f"'{key}'" for key in row if key != ORIGIN)
            fix = f"it has {keys}" if keys else "it is empty"
            raise UserError(str(unusable), fix=f"{fix}; on_missing: reject goes on without such rows") from unusable


def jsonl_to_chat(row: Row, user_template: str, assistant_template: str, system_prompt: str | None = None) -> Row:
    """Return a chat of one exchange (two messages, three with a system text).

    Raises:
        Unusable: the row lacks a key of a template, or its value is null.
    """
    data = {key: value for key, value in row.items() if key != ORIGIN}
    messages = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    messages.append({"role": "user", "content": render(user_template, data)})
    messages.append({"role": "assistant", "content": render(assistant_template, data)})
    chat: Row = {"messages": messages, "metadata": data}
    return {**chat, ORIGIN: row[ORIGIN]} if ORIGIN in row else chat


def render(template: str, data: Mapping[str, Any]) -> str:
    """Return the template with its keys replaced: texts as they are, anything else as JSON.

    Raises:
        Unusable: a key is missing, or null.
    """
    parts = []
    for words, key, _, _ in Formatter().parse(template):
        parts.append(words)
        if key is not None:
            value = _look_up(data, key)
            parts.append(value if isinstance(value, str) else json_text(value))
    return "".join(parts)


def _look_up(data: Mapping[str, Any], key: str) -> Any:
    value: Any = data
    if key in data:
        value = data[key]
    else:
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                hint = nearest(part, value) if isinstance(value, Mapping) else ""
                raise Unusable(f"the row has no '{key}', which the template asks for{'; ' if hint else ''}{hint}")
            value = value[part]
    if value is None:
        raise Unusable(f"'{key}', which the template asks for, is null")
    return value
