"""What is done with conversations that are longer than a training example may be.

LLaMA-Factory takes pairs of a prompt and its answer in order, cuts the pair that goes over the cutoff, and drops
what follows: the end of an answer, of a tool call too, is then trained on as if it were whole. Here whole pairs are
left off instead, so that there is nothing to cut. Pairs are counted from 0.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agent_sft.data.checks import CALL_MARK
from agent_sft.data.turns import FUNCTION_CALL, HUMAN

Policy = Literal["trim", "split", "drop", "error"]

MARGIN = 8
"""Tokens kept free in a window that does not begin with the conversation: some templates write the system text
into the first prompt, where it can share a token with it."""

ROW_OVERHEAD, TOOLS_OVERHEAD, TURN_OVERHEAD = 1536, 4096, 64
"""Most bytes that a template adds to a row, to a row with tools, and to a turn."""
REWRITTEN = 6
"""How many times longer JSON can become when a template writes it its own way."""


@dataclass(frozen=True)
class Window:
    """Pairs that stay together as an example: from `start` up to, without, `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class Fit:
    """What becomes of a conversation at a cutoff."""

    windows: tuple[Window, ...]
    """The examples made of it; none where it is dropped."""
    pairs: int
    """Pairs that it had."""
    tokens: int
    """Tokens that it had."""

    @property
    def kept_pairs(self) -> int:
        """Pairs that are still trained on."""
        return sum(window.end - window.start for window in self.windows)

    @property
    def whole(self) -> bool:
        """Whether nothing was done to it."""
        return self.windows == (Window(0, self.pairs),)


def fit(
    pairs: Sequence[tuple[int, int]],
    cutoff: int,
    policy: Policy,
    *,
    head: int = 0,
    extra: int = 0,
    starts: Sequence[int] = (0,),
) -> Fit:
    """Decide what becomes of a conversation.

    Args:
        pairs: tokens of each prompt and its answer; the first prompt includes the system text and the tools.
        cutoff: tokens that an example may have.
        policy: `trim` keeps the pairs from the first one that fit; `split` makes windows, each with the system
            text and the tools; `drop` and `error` keep a conversation that fits, and none of another one.
        head: tokens of the system text and the tools.
        extra: tokens that stand outside of all pairs.
        starts: pairs that a window can begin with, in order: those whose prompt is a person's.
    """
    sizes = [prompt + answer for prompt, answer in pairs]
    total = extra + sum(sizes)
    if total <= cutoff:
        windows: tuple[Window, ...] = (Window(0, len(pairs)),)
    elif policy == "trim":
        end = _reach(sizes, 0, cutoff - extra)
        windows = (Window(0, end),) if end else ()
    elif policy == "split":
        windows = tuple(_split(sizes, cutoff - extra, head, starts))
    else:
        windows = ()
    return Fit(windows, len(pairs), total)


def _reach(sizes: Sequence[int], start: int, room: int) -> int:
    """Return the pair before which one has to stop, from `start` on."""
    end = start
    while end < len(sizes) and sizes[end] <= room:
        room -= sizes[end]
        end += 1
    return end


def _split(sizes: Sequence[int], cutoff: int, head: int, starts: Sequence[int]) -> Iterator[Window]:
    """Yield windows, each as long as it can be and up to a pair that the next one can begin with.

    Where not even the pairs up to the next such beginning fit, the window ends between two of them and the
    rest up to that beginning is left out.
    """
    begins = sorted({*starts, 0})
    reached = 0
    for index, start in enumerate(begins):
        if start < reached:
            continue
        end = _reach(sizes, start, cutoff if start == 0 else cutoff - head - MARGIN)
        later = [begin for begin in begins[index + 1 :] if begin <= end]
        reached = len(sizes) if end == len(sizes) else (later[-1] if later else end)
        if reached > start:
            yield Window(start, reached)


def beginnings(turns: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the pairs of a prepared row that begin with words of a person, not with a tool's result."""
    found = [0]
    for pair in range(1, len(turns) // 2):
        prompt, before = turns[2 * pair], turns[2 * pair - 1]
        if prompt["from"] == HUMAN and before["from"] != FUNCTION_CALL and CALL_MARK not in before["value"]:
            found.append(pair)
    return found


def cut_row(row: Mapping[str, Any], window: Window) -> dict[str, Any]:
    """Return the row that holds the pairs of a window, with the system text and the tools."""
    return {**row, "conversations": row["conversations"][2 * window.start : 2 * window.end]}


def most_tokens(row: Mapping[str, Any]) -> int:
    """Return a number that the tokens of a prepared row cannot exceed, whatever the tokenizer and the template.

    A token stands for at least one byte. What can grow on the way is taken at its longest: text that a tokenizer
    normalises, JSON that a template writes anew, and what the template adds.
    """
    tools = row.get("tools") or ""
    size = ROW_OVERHEAD + _bytes(row.get("system") or "")
    if tools:
        size += TOOLS_OVERHEAD + REWRITTEN * _bytes(tools)
    for turn in row["conversations"]:
        size += TURN_OVERHEAD + (REWRITTEN if turn["from"] == FUNCTION_CALL else 1) * _bytes(turn["value"])
    return size


def _bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    forms = (text, unicodedata.normalize("NFD", text), unicodedata.normalize("NFKD", text))
    return max(len(form.encode("utf-8", "surrogatepass")) for form in forms)
