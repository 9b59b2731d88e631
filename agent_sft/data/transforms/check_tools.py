"""Calls against the JSON schemas of the tools: certain repairs are made and listed, other faults are rejects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, PrivateAttr, model_validator

from agent_sft.data.transforms.chat import Call, change_all_calls, json_text, messages_of, shown, with_messages
from agent_sft.data.transforms.contract import Outcome, Row, RowTransform, noted
from agent_sft.data.transforms.fields import Pattern
from agent_sft.data.transforms.registry import register_transform
from agent_sft.data.transforms.schemas import Repair, mend, schemas_of
from agent_sft.data.transforms.system_prompt import read_tools
from agent_sft.data.turns import Unusable
from agent_sft.errors import nearest


class RepairConfig(BaseModel, extra="forbid"):
    """A repair of your own, for what no schema says: `#` before the digits of an order's number."""

    argument: str
    """The name of the argument, at any depth."""
    pattern: Pattern
    """A regular expression that the whole text must match."""
    replace: str
    """What it becomes; `\\g<0>` is what it was."""

    @model_validator(mode="after")
    def _replaces(self) -> RepairConfig:
        try:
            re.compile(f"(?:{self.pattern})?").sub(self.replace, "")
        except (re.error, IndexError) as error:
            raise ValueError(f"'{self.replace}' cannot replace what '{self.pattern}' finds: {error}") from error
        return self


class Config(BaseModel, extra="forbid"):
    """What calls are held against."""

    tools: Path | None = None
    """A JSON file with a list of tools, for rows that have none themselves."""
    require_tools: bool = False
    """Reject rows with calls where no tools are known; otherwise such rows go on unchecked."""
    unknown_arguments: bool = False
    """Take arguments that a schema does not name."""
    repair: bool = True
    """Make repairs that can have one meaning only; without, such rows are rejects."""
    repairs: tuple[RepairConfig, ...] = ()
    """Further repairs, which you know to be right."""

    _tools: list[Any] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _reads(self) -> Config:
        if self.tools is not None:
            self._tools = read_tools(self.tools)
        return self


@register_transform("check_tools")
class CheckTools(RowTransform):
    """Checks the name of each call, and its arguments: required ones, unknown ones, types, enums, nested objects."""

    name = "check_tools"
    row_by_row = True
    Config = Config

    def __init__(self, **params: object) -> None:
        self.config = Config.model_validate(params)
        self._repairs = [
            Repair(repair.argument, re.compile(repair.pattern), repair.replace) for repair in self.config.repairs
        ]

    def change(self, row: Row) -> Row | Outcome:
        """Return the row with its repairs noted."""
        config = self.config
        tools = row.get("tools") or config._tools
        changed, notes = check_tools(
            row,
            tools,
            repairs=self._repairs,
            repair=config.repair,
            closed=not config.unknown_arguments,
            require=config.require_tools,
        )
        return noted(changed, *notes) if notes else row


def check_tools(
    row: Row,
    tools: Sequence[Any],
    *,
    repairs: Sequence[Repair] = (),
    repair: bool = True,
    closed: bool = True,
    require: bool = False,
) -> tuple[Row, list[str]]:
    """Return the row with every call as its tool's schema wants it, and the repairs that were made.

    Args:
        row: the row.
        tools: the tools that may be called, as functions or wrapped in `{"type": "function"}`.
        repairs: repairs beside those that follow from the schemas.
        repair: whether to repair at all.
        closed: refuse arguments that a schema does not name.
        require: refuse calls where there are no tools.

    Raises:
        Unusable: a call that no repair makes right; the message names the turn, the tool and the argument.
    """
    messages = messages_of(row)
    if not tools and not require:
        return row, []
    schemas = schemas_of(json_text(list(tools)), closed)
    notes: list[str] = []

    def check(call: Call) -> dict[str, Any]:
        name, arguments = call.name, call.value.get("arguments")
        label = f"turn {call.turn}: "
        if name not in schemas.names:
            hint = nearest(name, schemas.names)
            raise Unusable(f"{label}there is no tool '{name}'{'; ' if hint else ''}{hint}")
        if not isinstance(arguments, dict):
            raise Unusable(f"{label}the arguments of '{name}' are no object: {shown(arguments)}")
        try:
            mended, made = mend(schemas, name, arguments, repairs if repair else ())
        except Unusable as unusable:
            raise Unusable(f"{label}the call of '{name}' {unusable}") from unusable
        if made and not repair:
            raise Unusable(f"{label}the call of '{name}' needs a repair: {made[0]}")
        notes.extend(f"{label}'{name}' {note}" for note in made)
        return call.value if mended is arguments else {**call.value, "arguments": mended}

    changed = change_all_calls(messages, check)
    return with_messages(row, changed), notes
