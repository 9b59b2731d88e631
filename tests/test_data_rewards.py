"""Which rows are chosen by their reward, and what is refused as no rollouts."""

from __future__ import annotations

from typing import Any

import pytest

from agent_sft.data.conversation import Origin
from agent_sft.data.formats import FORMATS
from agent_sft.data.rewards import LeftOut, Rewards
from agent_sft.data.turns import Unusable
from agent_sft.errors import UserError

HERE, THERE = Origin(file="run.eval", row=1), Origin(file="chats.jsonl", row=1)


@pytest.mark.parametrize("row", [{"reward": 0.4}, {"metadata": {"reward": 0}}])
def test_a_low_reward_leaves_a_row_out(row: Any) -> None:
    with pytest.raises(LeftOut, match=r"is below 0\.5"):
        Rewards(0.5).check(HERE, row)


@pytest.mark.parametrize("row", [{}, {"reward": True}, {"reward": None}, {"reward": "1"}, None])
def test_no_reward_is_no_number(row: Any) -> None:
    with pytest.raises(Unusable, match="it has no reward, which --min-reward looks at"):
        Rewards(0.5).check(HERE, row)


def test_only_rollouts_are_asked_where_some_are_given() -> None:
    rewards = Rewards(0.5, frozenset({HERE.file}))
    rewards.check(THERE, {})
    with pytest.raises(Unusable):
        rewards.check(HERE, {})
    rewards.check(HERE, {"reward": 0.5})
    Rewards().check(HERE, {"reward": -1})


def test_what_is_given_as_rollouts_has_to_be_some() -> None:
    rewards = Rewards(rollouts=frozenset({HERE.file}))
    rewards.expect(HERE.file, FORMATS["tau2"], [])
    rewards.expect(HERE.file, FORMATS["openai"], [{}, {"reward": 1}])
    rewards.expect(THERE.file, FORMATS["openai"], [{}])
    with pytest.raises(UserError, match=r"run.eval: holds OpenAI chat rows without a reward, not rollouts of an agent"):
        rewards.expect(HERE.file, FORMATS["openai"], [{}])
