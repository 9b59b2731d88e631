"""Models compared by their losses on the same held-out conversations, each weighing the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from agent_sft.errors import UserError
from agent_sft.evals.comparison import Difference, corrected, difference
from agent_sft.evals.intervals import mean_interval
from agent_sft.evals.results import read_results

PER_TOKEN, PER_CHARACTER = "nats per token", "nats per character"


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluation of the loss found of each conversation."""

    losses: list[float]
    """In nats per token."""
    tokens: list[int]
    """Those with loss."""
    characters: list[int]
    """Of the agent's turns."""

    @property
    def mean(self) -> float:
        """The mean over conversations, in nats per token."""
        return sum(self.losses) / len(self.losses)


class LossTable(msgspec.Struct, frozen=True, kw_only=True):
    """Losses of several models on the same conversations, in a unit that all have."""

    unit: str
    """`nats per token`; per character where models cut texts into different tokens."""
    values: dict[str, list[float]]
    """Of each model, of each conversation."""

    def mean(self, name: str) -> float:
        """Return the mean of a model over conversations."""
        return sum(self.values[name]) / len(self.values[name])


def read_losses(folder: str | Path) -> Losses:
    """Return the losses that an evaluation found.

    Raises:
        UserError: there is no finished evaluation of the loss, or it is one that did not keep them.
    """
    _, trials = read_results(folder)
    detail = trials[0].detail if trials else {}
    if "losses" not in detail:
        raise UserError("the loss of each conversation is not known", where=str(folder), fix="evaluate it again")
    return Losses(losses=detail["losses"], tokens=detail["tokens"], characters=detail["characters"])


def loss_table(found: Mapping[str, Losses]) -> LossTable:
    """Put losses of models beside each other.

    Models with other tokenizers have other tokens to foresee: what they are compared by is then the loss of a whole
    conversation for each character of the agent's turns.

    Raises:
        UserError: they are not of the same conversations.
    """
    first = next(iter(found.values()))
    if any(one.characters != first.characters for one in found.values()):
        raise UserError("the losses are not of the same conversations", fix="evaluate all on the same file")
    if all(one.tokens == first.tokens for one in found.values()):
        return LossTable(unit=PER_TOKEN, values={name: one.losses for name, one in found.items()})
    return LossTable(
        unit=PER_CHARACTER,
        values={
            name: [
                loss * tokens / max(1, characters)
                for loss, tokens, characters in zip(one.losses, one.tokens, one.characters, strict=True)
            ]
            for name, one in found.items()
        },
    )


def compare_losses(table: LossTable, baseline: str) -> list[Difference]:
    """Compare models with one of them, conversation by conversation; what is better has the lower loss.

    The interval is mean ± t · sd / √n of the differences, p that of the sign-flip test, corrected by Holm.

    Returns:
        A difference for each other model: its mean loss less the baseline's.
    """
    before = np.array(table.values[baseline])
    numbers = [str(number) for number in range(1, len(before) + 1)]
    found = []
    for name, values in table.values.items():
        if name == baseline:
            continue
        change = np.array(values) - before
        pairs = list(zip(before.tolist(), values, strict=True))
        found.append(difference(name, numbers, pairs, change, mean_interval(change), higher_is_better=False))
    return corrected(found, higher_is_better=False)
