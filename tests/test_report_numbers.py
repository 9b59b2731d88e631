"""Numbers as people read them."""

from __future__ import annotations

import pytest

from agent_sft.report.numbers import money


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0.00"), (12.5, "12.50"), (0.104, "0.10"), (0.0733, "0.073"), (0.001, "0.0010")]
)
def test_small_amounts_of_money_are_not_rounded_to_nothing(amount: float, text: str) -> None:
    assert money(amount) == text
