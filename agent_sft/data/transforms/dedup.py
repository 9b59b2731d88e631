"""Of rows that say the same, the first stays."""

from __future__ import annotations

import hashlib

from pydantic import BaseModel, Field

from agent_sft.data.transforms.chat import json_text
from agent_sft.data.transforms.contract import ORIGIN, Outcome, Row, RowTransform, leave_out
from agent_sft.data.transforms.fields import MISSING, look_up
from agent_sft.data.transforms.registry import register_transform


class Config(BaseModel, extra="forbid"):
    """What makes two rows the same."""

    by: tuple[str, ...] = Field(("messages", "tools"), min_length=1)
    """Places that must be equal, such as `messages.1.content` or `metadata.task_id`."""


@register_transform("dedup")
class Dedup(RowTransform):
    """Leaves out rows that are equal, in the places named, to one before; it remembers a digest of each."""

    name = "dedup"
    Config = Config

    def __init__(self, **params: object) -> None:
        self.config = Config.model_validate(params)
        self._seen: dict[bytes, str] = {}

    def change(self, row: Row) -> Row | Outcome:
        """Return the row, left out if there was one like it. A row with none of the places is like no other."""
        key = digest(row, self.config.by)
        if key is None:
            return row
        first = self._seen.get(key)
        if first is not None:
            return leave_out(row, f"the same as {first}")
        place = row.get(ORIGIN)
        self._seen[key] = f"row {place['row']} of {place['file']}" if place else f"row {len(self._seen) + 1}"
        return row


def digest(row: Row, places: tuple[str, ...]) -> bytes | None:
    """Return what is equal for rows that hold the same at all of `places`; None where they hold nothing."""
    values = [look_up(row, place) for place in places]
    if all(value is MISSING for value in values):
        return None
    text = json_text([[] if value is MISSING else [value] for value in values])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
