"""Which rollouts are good enough to be trained on: those with a reward that is high enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent_sft.data.conversation import Origin
from agent_sft.data.formats import FORMATS, Format, inspect, tau2
from agent_sft.data.turns import Unusable
from agent_sft.errors import UserError

ROLLOUTS = (FORMATS[tau2.NAME], FORMATS[inspect.NAME])
"""The formats in which benchmarks record what an agent did, with its reward."""


class LeftOut(Exception):
    """A row is not wanted: nothing is wrong with it. The message says why."""


@dataclass(frozen=True)
class Rewards:
    """What is asked of rows' rewards."""

    minimum: float | None = None
    """Leave out rows with a reward below it."""
    rollouts: frozenset[str] = frozenset()
    """Names of the sources that were given as rollouts: of them the minimum is asked, or of all if there are none."""

    def expect(self, source: str, form: Format | None, first: Iterable[Any]) -> None:
        """Hold a source that was given as rollouts against what it is.

        Args:
            source: its name.
            form: the format of its rows; None where they are taken as they are.
            first: its first rows.

        Raises:
            UserError: it holds no rollouts.
        """
        if source not in self.rollouts or form in ROLLOUTS:
            return
        if any(_reward(row) is not None for row in first):
            return
        what = form.title if form is not None else "raw rows"
        raise UserError(
            f"holds {what} without a reward, not rollouts of an agent",
            where=source,
            fix="give it as --dataset; rollouts are tau2 result files, Inspect logs, or rows with a 'reward'",
        )

    def check(self, origin: Origin, metadata: Any) -> None:
        """Look at the reward of a row.

        Args:
            origin: where the row comes from.
            metadata: of its conversation; has a `reward`.

        Raises:
            LeftOut: its reward is below the minimum.
            Unusable: it has none.
        """
        if self.minimum is None or (self.rollouts and origin.file not in self.rollouts):
            return
        reward = _reward(metadata)
        if reward is None:
            raise Unusable("it has no reward, which --min-reward looks at")
        if reward < self.minimum:
            raise LeftOut(f"its reward, {reward:g}, is below {self.minimum:g}")


def _reward(row: Any) -> float | None:
    """Return the reward that a row or its metadata name."""
    if not isinstance(row, Mapping):
        return None
    inner = row.get("metadata")
    for place in (row, inner if isinstance(inner, Mapping) else {}):
        reward = place.get("reward")
        if isinstance(reward, int | float) and not isinstance(reward, bool):
            return reward
    return None
