"""Parts of data: whole groups, the same on every run, and nothing that is held out is trained on."""

from __future__ import annotations

from typing import Any

import pytest

from agent_sft.data.parting import Groups, group_rows
from agent_sft.data.turns import Unusable


def row(question: str, answer: str = "yes", **metadata: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "metadata": metadata}


def test_rows_that_ask_the_same_stay_together_whatever_the_answer() -> None:
    groups = group_rows([row("a"), row("b"), row("a", "no")], None)
    assert groups.of[0] == groups.of[2] != groups.of[1]
    assert (groups.count, groups.place) == (2, None)


def test_a_name_of_the_group_is_found_and_joins_what_asks_the_same() -> None:
    rows = [row(f"{n}", task_id=n // 2) for n in range(40)]
    rows.append(row("0", task_id=99))  # asks what a row of task 0 asks
    groups = group_rows(rows, None)
    assert groups.place == "metadata.task_id"
    assert groups.of[0] == groups.of[1] == groups.of[40]
    assert groups.count == 20


def test_a_few_kinds_of_conversations_are_no_groups() -> None:
    assert group_rows([row(f"{n}", task=n % 3) for n in range(40)], None).count == 40


def test_a_place_that_a_row_lacks_is_told_with_the_row() -> None:
    with pytest.raises(Unusable, match=r"row 2 has no metadata\.call"):
        group_rows([row("a", call=1), row("b")], "metadata.call")


def test_a_part_is_made_of_whole_groups_and_always_the_same() -> None:
    groups = Groups(None, tuple(f"g{n // 3}" for n in range(90)))
    part = groups.choose(range(90), 20, seed=42)
    assert 20 <= len(part) <= 30
    assert part == groups.choose(range(90), 20, seed=42) == sorted(part)
    assert part != groups.choose(range(90), 20, seed=43)
    assert not {groups.of[n] for n in part} & {groups.of[n] for n in range(90) if n not in part}


def test_a_group_that_is_nearly_everything_is_not_held_out() -> None:
    groups = Groups(None, ("large",) * 80 + tuple(f"g{n}" for n in range(20)))
    for seed in range(5):
        part = groups.choose(range(100), 10, seed)
        assert len(part) == 10
        assert "large" not in {groups.of[n] for n in part}
