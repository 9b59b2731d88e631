"""A turn of a ShareGPT conversation, and why a row cannot be trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent_sft.data.reading import ROW_KEY, describe

HUMAN = "human"
GPT = "gpt"
FUNCTION_CALL = "function_call"
OBSERVATION = "observation"
SYSTEM = "system"

ROLES = (HUMAN, GPT, FUNCTION_CALL, OBSERVATION, SYSTEM)
"""The values of `from` that LLaMA-Factory's ShareGPT converter knows."""

WORDS = (HUMAN, GPT)
"""Roles whose turns hold words, which a newline joins without loss; calls and results take more care."""

PROMPTS = (HUMAN, OBSERVATION)
"""What the agent answers: no loss."""

ANSWERS = (GPT, FUNCTION_CALL)
"""What the agent writes: these carry the loss."""


SUPERVISE_KEYS = ("supervise", "loss", "weight")
"""Keys by which a turn can say whether it carries loss: true, false, 1 or 0."""


class Unusable(Exception):
    """A row cannot be trained on; the message is the reason, for people."""


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation."""

    role: str
    text: str
    number: int
    """Place in the row as it was read, from 1; of merged turns, the first."""
    supervise: bool | None = None
    """Whether this answer carries loss; None leaves it to the run."""

    @property
    def label(self) -> str:
        """The turn as reasons name it."""
        return f"turn {self.number} ({self.role})"


def has_plain_roles(row: Any) -> bool:
    """Tell whether every turn of a row names its role as LLaMA-Factory does."""
    turns = row.get(ROW_KEY) if isinstance(row, dict) else None
    return isinstance(turns, list) and all(isinstance(turn, dict) and turn.get("from") in ROLES for turn in turns)


def parse_turns(row: Any) -> list[Turn]:
    """Return the turns of a row as it was read.

    Raises:
        Unusable: there is no list of turns, or one has no known role or no text.
    """
    if not isinstance(row, dict):
        raise Unusable(f"the row is {describe(row)}, not an object")
    if ROW_KEY not in row:
        hint = ": rows with 'messages' are not ShareGPT" if "messages" in row else ""
        raise Unusable(f"the row has no '{ROW_KEY}'{hint}")
    turns = row[ROW_KEY]
    if not isinstance(turns, list):
        raise Unusable(f"'{ROW_KEY}' is {describe(turns)}, not an array of turns")
    if not turns:
        raise Unusable("the conversation has no turns")
    return [_parse_turn(turn, number) for number, turn in enumerate(turns, start=1)]


def _parse_turn(turn: Any, number: int) -> Turn:
    if not isinstance(turn, dict):
        raise Unusable(f"turn {number} is {describe(turn)}, not an object")
    if "from" not in turn:
        raise Unusable(f"turn {number} has no 'from'")
    role = turn["from"]
    if role not in ROLES:
        shown = f"'{role}'" if isinstance(role, str) else describe(role)
        raise Unusable(f"turn {number} has an unknown role, {shown}: known are {', '.join(ROLES)}")
    if "value" not in turn:
        raise Unusable(f"turn {number} ({role}) has no 'value'")
    if not isinstance(turn["value"], str):
        raise Unusable(f"turn {number} ({role}): its value is {describe(turn['value'])}, not a text")
    flag = supervise_flag(turn, f"turn {number} ({role})")
    return Turn(role, turn["value"], number, flag if role in ANSWERS else None)


def supervise_flag(turn: Mapping[str, Any], label: str) -> bool | None:
    """Return whether a turn says for itself that it carries loss; None where it says nothing.

    Raises:
        Unusable: it says neither yes nor no, or both.
    """
    if len(turn) == 2 and "from" in turn and "value" in turn:
        return None
    given = [turn[key] for key in SUPERVISE_KEYS if turn.get(key) is not None]
    if not given:
        return None
    if given[0] not in (0, 1) or len({bool(value) for value in given}) > 1:
        raise Unusable(f"{label}: whether it carries loss is said as {given[0]}, neither true nor false")
    return bool(given[0])
