"""What is cut off and what is held again is exactly the difference between a row and its examples."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent_sft.data.cutting import change_record
from agent_sft.data.fitting import Counts, Fitting
from agent_sft.data.trail import measure_prepared

POLICIES: Any = st.sampled_from(["trim", "split", "drop"])
CHOICES: Any = st.sampled_from(["all_assistant", "last_assistant", "final_answer", "tool_calls"])


@given(
    sizes=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=6),
    cutoff=st.integers(5, 150),
    policy=POLICIES,
    supervise=CHOICES,
    system=st.integers(0, 9),
)
def test_a_row_less_what_is_cut_and_with_what_is_held_again_is_its_examples(
    sizes: list[tuple[int, int]], cutoff: int, policy: Any, supervise: Any, system: int
) -> None:
    turns = [
        {"from": role, "value": letter * size}
        for pair in sizes
        for role, letter, size in (("human", "q", pair[0]), ("gpt", "a", pair[1]))
    ]
    row = {"conversations": turns, "system": "s" * system, "tools": ""}
    counts = Counts(((sizes[0][0] + system, sizes[0][1]), *sizes[1:]), system, 2)
    made = Fitting(cutoff, policy, supervise, supervise != "all_assistant").apply(row, counts)
    record = change_record("d", 1, row, made, counts)
    before = Counter({**measure_prepared(row), "tokens": made.tokens})
    after: Counter[str] = sum(map(measure_prepared, made.rows), Counter()) + Counter({"tokens": made.tokens_trained})
    before.update(record["repeated"])
    before.subtract(record["cut"])
    assert {unit: before[unit] for unit in ("turns", "characters", "tokens")} == {
        unit: after[unit] for unit in ("turns", "characters", "tokens")
    }
    assert min([*record["repeated"].values(), *record["cut"].values(), 0]) == 0
