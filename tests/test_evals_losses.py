"""Losses compared conversation by conversation: what is told, and what is not."""

from __future__ import annotations

import pytest

from agent_sft.errors import UserError
from agent_sft.evals.losses import PER_CHARACTER, PER_TOKEN, Losses, compare_losses, loss_table


def losses(values: list[float], tokens: int = 10, characters: int = 40) -> Losses:
    count = len(values)
    return Losses(losses=values, tokens=[tokens] * count, characters=[characters] * count)


def test_a_lower_loss_everywhere_is_better() -> None:
    base = [1.0, 1.2, 0.9, 1.4, 1.1, 1.0, 1.3, 0.8]
    table = loss_table({"base": losses(base), "good": losses([value - 0.1 for value in base])})
    (found,) = compare_losses(table, "base")
    assert table.unit == PER_TOKEN
    assert found.verdict == "better"
    assert found.value == pytest.approx(-0.1)
    assert found.p == pytest.approx(2 / 2**8, rel=0.2), "the sign-flip test has 256 orders"
    assert found.gained == [str(n) for n in range(1, 9)]


def test_differences_that_go_both_ways_cannot_be_told() -> None:
    table = loss_table({"a": losses([1.0, 2.0, 1.0, 2.0, 1.5]), "b": losses([1.1, 1.9, 1.2, 1.8, 1.6])})
    (found,) = compare_losses(table, "a")
    assert found.verdict == "cannot tell"
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high
    assert found.tasks_needed is not None
    assert found.tasks_needed > 5


def test_few_conversations_tell_nothing_however_clear_they_look() -> None:
    table = loss_table({"a": losses([1.0] * 4), "b": losses([0.1] * 4)})
    assert compare_losses(table, "a")[0].verdict == "cannot tell"


def test_other_tokens_are_compared_by_characters() -> None:
    same_text = loss_table({"a": losses([1.0] * 3, tokens=10), "b": losses([2.0] * 3, tokens=5)})
    assert same_text.unit == PER_CHARACTER
    assert same_text.mean("a") == same_text.mean("b") == pytest.approx(10 / 40)


def test_other_conversations_are_not_compared() -> None:
    with pytest.raises(UserError, match="not of the same conversations"):
        loss_table({"a": losses([1.0]), "b": losses([1.0], characters=41)})
