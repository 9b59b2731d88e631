"""Rows that are not as asked for are left out."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, Field, model_validator

from agent_sft.data.transforms.chat import shown
from agent_sft.data.transforms.contract import Outcome, Row, RowTransform, leave_out
from agent_sft.data.transforms.fields import MISSING, Pattern, look_up
from agent_sft.data.transforms.registry import register_transform


class Condition(BaseModel, extra="forbid"):
    """What must be true of one place in a row; of several tests all must be."""

    field: str
    """The place: `metadata.reward`, `messages.0.content`, `turns`, `characters`."""
    equals: Any = MISSING
    not_equals: Any = MISSING
    one_of: tuple[Any, ...] | None = None
    min: float | None = None
    max: float | None = None
    matches: Pattern | None = None
    """A regular expression that is found in the text."""
    exists: bool | None = None

    @model_validator(mode="after")
    def _tests_something(self) -> Condition:
        if self.model_fields_set == {"field"}:
            raise ValueError(
                f"nothing is asked of '{self.field}': give equals, not_equals, one_of, min, max, matches or exists"
            )
        return self

    def fault(self, row: Row) -> str | None:
        """Return why a row is not as asked for, or None."""
        value = look_up(row, self.field)
        if self.exists is False:
            return None if value is MISSING else f"has {self.field}"
        if value is MISSING:
            return None if self.model_fields_set == {"field", "not_equals"} else f"has no {self.field}"
        what = f"{self.field} is {shown(value)}"
        if self.equals is not MISSING and not _equal(value, self.equals):
            return f"{what}, not {shown(self.equals)}"
        if self.not_equals is not MISSING and _equal(value, self.not_equals):
            return what
        if self.one_of is not None and not any(_equal(value, known) for known in self.one_of):
            return f"{what}, none of {shown(list(self.one_of))}"
        if self.min is not None and not (_is_number(value) and value >= self.min):
            return f"{what}, below {self.min:g}" if _is_number(value) else f"{what}, no number"
        if self.max is not None and not (_is_number(value) and value <= self.max):
            return f"{what}, above {self.max:g}" if _is_number(value) else f"{what}, no number"
        if self.matches is not None and not (isinstance(value, str) and re.search(self.matches, value)):
            return f"{self.field} does not match {self.matches}"
        return None


class Config(BaseModel, extra="forbid"):
    """Which rows go on."""

    where: tuple[Condition, ...] = Field(min_length=1)
    """All of these must be true."""


@register_transform("filter")
class Filter(RowTransform):
    """Leaves out rows of which a condition is not true, with the condition as the reason."""

    name = "filter"
    row_by_row = True
    Config = Config

    def __init__(self, **params: object) -> None:
        self.config = Config.model_validate(params)

    def change(self, row: Row) -> Row | Outcome:
        """Return the row, left out with the first reason against it."""
        for condition in self.config.where:
            if (fault := condition.fault(row)) is not None:
                return leave_out(row, fault)
        return row


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(value: Any, other: Any) -> bool:
    """Compare as JSON does: true is not 1."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)
