"""A transform of one's own: e-mail addresses and telephone numbers become placeholders.

Named in a pipeline as `strip_pii.py:StripPII`, or as `strip_pii` once a package brings it along.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from pydantic import BaseModel

from agent_sft.data.transforms import Row, register_transform

EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
PHONE = re.compile(r"\+\d[\d ()-]{6,}\d")


@register_transform("strip_pii")
class StripPII:
    """Redacts the texts of all turns; arguments of calls stay, or they would not fit their results."""

    name = "strip_pii"

    class Config(BaseModel, extra="forbid"):
        """What stands in the place of what was found."""

        email: str = "<email>"
        phone: str = "<phone>"

    def __init__(self, **params: object) -> None:
        self.config = self.Config.model_validate(params)

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield each row with its texts redacted."""
        for row in rows:
            for message in row["messages"]:
                if message.get("content"):
                    message["content"] = self.redact(message["content"])
            yield row

    def redact(self, text: str) -> str:
        """Return a text without addresses and numbers."""
        return PHONE.sub(self.config.phone, EMAIL.sub(self.config.email, text))
