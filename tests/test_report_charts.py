"""Charts: round ticks, every value where it belongs, nothing told by colour alone."""

from __future__ import annotations

import re

import pytest

from agent_sft.report.charts import Axis, Point, Series, chart, key, loss_axis, number_axis, rows, thinned, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0, 60, [0, 10, 20, 30, 40, 50, 60]), (3, 7, [3, 4, 5, 6, 7]), (2, 2, [2])],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_few_values_are_the_ticks_themselves() -> None:
    assert list(number_axis("share", [0, 5, 10, 20]).ticks) == [0, 5, 10, 20]
    assert list(number_axis("rate", [1, 2, 1000]).ticks) != [1, 2, 1000]


def test_losses_that_differ_by_much_get_a_logarithmic_axis() -> None:
    assert not loss_axis("loss", [0.5, 2.0]).logarithmic
    axis = loss_axis("loss", [0.011, 3.0])
    assert axis.logarithmic and list(axis.ticks) == pytest.approx([0.01, 0.1, 1, 10])
    assert axis.place(0.1) - axis.place(0.01) == pytest.approx(axis.place(1) - axis.place(0.1))


def test_a_value_is_drawn_at_its_place_with_its_interval() -> None:
    axis = Axis("score", 0, 1, [0, 1])
    drawn = chart(
        "what", [Series("pass^1", [Point(0, 0.5, 0.25, 1.0), Point(10, 1.0)])], number_axis("x", [0, 10]), axis
    )
    base, top = 246, 26
    middle = base - 0.5 * (base - top)
    assert f'cy="{middle:.1f}"' in drawn and f'cy="{top:.1f}"' in drawn
    assert re.search(rf'd="M[\d.]+ {base - 0.25 * (base - top):.1f}V{top:.1f}', drawn)


def test_series_differ_in_mark_and_dashes_too() -> None:
    shown = key([Series(str(kind), [], kind) for kind in range(4)])
    assert "<circle" in shown and shown.count("<path") == 3
    assert len(set(re.findall(r'stroke-dasharray="([^"]*)"', shown))) == 3


def test_a_row_for_each_category_long_names_cut_and_told_in_full() -> None:
    name = "a-name-that-is-longer-than-there-is-room"
    shown = rows("what", ["<a>", name], [Series("s", [Point(1, 0.5)])], Axis("score", 0, 1, [0, 1]))
    assert "&lt;a&gt;" in shown and f"<title>{name}</title>" in shown and "a-name-that-is-longer…" in shown


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    curve = [(step, float(step)) for step in range(10_000)]
    shown = thinned(curve, 100)
    assert len(shown) == 100 and shown[0] == curve[0] and shown[-1] == curve[-1]
    assert thinned(curve[:50], 100) == curve[:50]
