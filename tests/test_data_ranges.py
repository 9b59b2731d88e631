"""Row numbers as ranges."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent_sft.data.ranges import Ranges, RowRanges, parse_ranges


@given(st.lists(st.integers(1, 30), unique=True))
def test_what_is_written_is_read_again(numbers: list[int]) -> None:
    ranges = Ranges()
    for number in numbers:
        ranges.add(number)
    assert list(parse_ranges(str(ranges))) == list(ranges) == numbers
    assert len(ranges) == len(numbers)


def test_runs_are_short() -> None:
    rows = RowRanges()
    for file, row in (("a", 1), ("a", 2), ("b", 2), ("a", 3), ("a", 7)):
        rows.add(file, row)
    assert rows.as_json() == {"a": "1-3, 7", "b": "2"}
