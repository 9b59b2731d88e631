"""The formats that conversations are read from: one module each, found here by name or by what rows look like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent_sft.data.common import chat_of_sharegpt, chat_of_sharegpt_text
from agent_sft.data.conversation import Conversation, Origin
from agent_sft.data.formats import inspect, openai, prompt_response, sharegpt, tau2
from agent_sft.errors import UserError, nearest


@dataclass(frozen=True)
class Format:
    """How rows of one form are read."""

    name: str
    title: str
    """What people call it."""
    recognise: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Any, Origin], Conversation]
    """Raises `Unusable` with the reason, naming the turn."""
    chat: Callable[[Any], dict[str, Any] | None] = lambda row: None
    """A shortcut to `to_row(read(...))` for common rows; None where there is none."""
    chat_text: Callable[[bytes], dict[str, Any] | None] = lambda text: None
    """The same of a row's JSON text."""


FORMATS = {
    form.name: form
    for form in (
        Format(
            sharegpt.NAME,
            "ShareGPT conversations",
            sharegpt.recognise,
            sharegpt.read,
            chat_of_sharegpt,
            chat_of_sharegpt_text,
        ),
        Format(tau2.NAME, "simulations of tau2", tau2.recognise, tau2.read),
        Format(inspect.NAME, "samples of Inspect logs", inspect.recognise, inspect.read),
        Format(openai.NAME, "OpenAI chat rows", openai.recognise, openai.read),
        Format(prompt_response.NAME, "prompts with responses", prompt_response.recognise, prompt_response.read),
    )
}
"""In the order in which they are asked: those that are more particular first."""


def format_named(name: str) -> Format:
    """Return a format by its name.

    Raises:
        UserError: there is none; with the nearest.
    """
    if name not in FORMATS:
        hint = nearest(name, FORMATS)
        known = f"there are: {', '.join(FORMATS)}"
        raise UserError(f"there is no format '{name}'", where="--format", fix=f"{hint} ({known})" if hint else known)
    return FORMATS[name]


def detect(rows: Iterable[Any], where: str) -> Format:
    """Return the format that most of the first rows have.

    Raises:
        UserError: none of them is of a known format.
    """
    first = list(rows)
    counts = dict.fromkeys(FORMATS, 0)
    for row in first:
        if not isinstance(row, Mapping):
            continue
        found = next((name for name, form in FORMATS.items() if form.recognise(row)), None)
        if found is not None:
            counts[found] += 1
    best = max(counts, key=lambda name: counts[name])
    if counts[best]:
        return FORMATS[best]
    keys = next((", ".join(f"'{key}'" for key in list(row)[:5]) for row in first if isinstance(row, Mapping)), "none")
    raise UserError(
        f"holds rows of no known format (their keys: {keys or 'none'})",
        where=where,
        fix=f"known are {', '.join(FORMATS)}; of others `data process` makes conversations (jsonl_to_chat)",
    )
