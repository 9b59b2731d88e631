"""What is in data."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest

from agent_sft.data.statistics import MOST_BINS, Histogram, Statistics, called_tools, quantile
from agent_sft.report.figures import svg_histogram, text_histogram


def row(text: str = "q") -> dict[str, Any]:
    turns = [
        ("human", text),
        ("function_call", '[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]'),
        ("observation", "r"),
        ("gpt", 'Now.\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'),
    ]
    return {"conversations": [{"from": role, "value": value} for role, value in turns], "system": "", "tools": ""}


def test_turns_roles_and_tools_are_counted() -> None:
    statistics = Statistics()
    statistics.add(row())
    assert (statistics.rows, statistics.turns) == (1, 4)
    assert dict(statistics.roles) == {"human": 1, "function_call": 1, "observation": 1, "gpt": 1}
    assert dict(statistics.tools) == {"f": 2, "g": 1}
    assert statistics.lengths == [statistics.characters]


def test_a_row_that_was_there_before_is_a_duplicate() -> None:
    statistics = Statistics()
    for text in ("a", "b", "a", "a"):
        statistics.add(row(text))
    assert (statistics.duplicates, statistics.duplicate_rate) == (2, 0.5)


def test_words_about_calls_are_no_calls() -> None:
    assert list(called_tools({"from": "gpt", "value": "I use <tool_call> for it."})) == []
    assert list(called_tools({"from": "human", "value": "hi"})) == []


@pytest.mark.parametrize("values", [[0], [3, 3, 4], [999, 1000, 1001], list(range(0, 100_000, 7))])
def test_every_value_is_in_its_bin(values: list[int]) -> None:
    histogram = Histogram.of(values)
    bins = list(histogram.bins())
    assert sum(count for _, _, count in bins) == len(values)
    assert 1 <= len(bins) <= MOST_BINS
    for start, end, count in bins:
        assert count == sum(start <= value < end for value in values)


def test_no_values_make_no_bins() -> None:
    assert list(Histogram.of([]).bins()) == []
    assert text_histogram([]) == []


def test_quantiles_are_values_that_occur() -> None:
    assert [quantile([4, 1, 3, 2], share) for share in (0.25, 0.5, 0.51, 1.0)] == [1, 2, 3, 4]


def test_bars_are_as_long_as_their_counts() -> None:
    lines = text_histogram([(0, 10, 4), (10, 20, 0), (20, 30, 2)], width=8)
    assert lines == ["  0 to 9  ████████ 4", "10 to 19  0", "20 to 29  ████ 2"]


def test_the_figure_names_every_bin() -> None:
    axes = {"unit": "tokens", "counted": "rows"}
    drawn = svg_histogram([(0, 10, 4), (10, 20, 0)], "rows < 20", marks=[("median", 7)], **axes)
    assert "<title>0 to 9: 4</title>" in drawn
    assert drawn.count("<rect") == 2
    assert "rows &lt; 20" in drawn
    assert "median 7</text>" in drawn
    row = '<th scope="row">0 to 9</th><td>4</td>'
    assert row in drawn, "who cannot point at a bar reads the table"


@pytest.mark.parametrize("bins", [[], [(0, 1, 1)], [(n * 5_000, n * 5_000 + 5_000, n) for n in range(16)]])
def test_labels_of_the_axis_never_touch(bins: list[tuple[int, int, int]]) -> None:
    drawn = svg_histogram(bins, "c", unit="tokens", counted="rows")
    labels = re.findall(r'<text x="([\d.]+)" y="296" text-anchor="middle">([\d,]+)<', drawn)
    for (left, text), (right, following) in pairwise(labels):
        assert float(right) - float(left) > 9 * (len(text) + len(following)) / 2
    assert len(labels) >= min(len(bins), 2)
