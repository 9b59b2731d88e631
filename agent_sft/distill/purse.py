"""The ceiling on tokens and money: a request goes out only if even its longest answer stays below it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from agent_sft.distill.answers import Spent

FIRST_RATIO = 0.5
"""Tokens a byte of a request is taken to have until a request tells: twice what English text has."""


class CeilingReached(Exception):
    """There is no room for another request. The message says which ceiling, and what was spent."""


class Ceilings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be spent. Without prices money is not counted."""

    tokens: int | None = None
    money: float | None = None
    price_in: float | None = None
    """Of a million tokens of requests."""
    price_out: float | None = None


class Purse:
    """Holds back what requests that are under way can come to."""

    def __init__(self, ceilings: Ceilings, spent: Spent) -> None:
        """Begin with what was spent before.

        Args:
            ceilings: what may be spent.
            spent: is counted further by whoever keeps the answers.
        """
        self._ceilings = ceilings
        self._spent = spent
        self._held: dict[object, tuple[int, int]] = {}
        self._freed = asyncio.Condition()
        self._ratio = 0.0
        self.reached: str | None = None
        """Which ceiling ended it; None while there is room."""

    @asynccontextmanager
    async def hold(self, size: int, longest_answer: int) -> AsyncIterator[None]:
        """Hold back what a request can come to, for the time of a block; wait for room where others will leave some.

        Args:
            size: bytes of the request.
            longest_answer: tokens.

        Raises:
            CeilingReached: there is none.
        """
        token = object()
        async with self._freed:
            while (why := self._too_much(most := (self.tokens_of(size), longest_answer))) is not None:
                if not self._held:
                    self.reached = why
                    raise CeilingReached(why)
                await self._freed.wait()
            self._held[token] = most
        try:
            yield
        finally:
            async with self._freed:
                del self._held[token]
                self._freed.notify_all()

    def saw(self, size: int, input_tokens: int) -> None:
        """Learn from an answer how many tokens a request of so many bytes has."""
        self._ratio = max(self._ratio, input_tokens / max(1, size))

    def tokens_of(self, size: int) -> int:
        """Return how many tokens a request of so many bytes has, rather too many than too few."""
        return int(size * (self._ratio or FIRST_RATIO)) + 1

    def _too_much(self, most: tuple[int, int]) -> str | None:
        held = [*self._held.values(), most]
        worst = Spent(0, self._spent.input_tokens, self._spent.output_tokens)
        worst.input_tokens += sum(one[0] for one in held)
        worst.output_tokens += sum(one[1] for one in held)
        limits = self._ceilings
        if limits.tokens is not None and worst.tokens > limits.tokens:
            return f"the ceiling of {limits.tokens:,} tokens ({self._spent.tokens:,} are spent)"
        if limits.money is None or limits.price_in is None or limits.price_out is None:
            return None
        if worst.cost(limits.price_in, limits.price_out) > limits.money:
            spent = self._spent.cost(limits.price_in, limits.price_out)
            return f"the budget of {limits.money:g} ({spent:.4g} is spent)"
        return None
