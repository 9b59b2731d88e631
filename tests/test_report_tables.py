"""Tables: words on the left, numbers on the right, wherever they are shown."""

from __future__ import annotations

from agent_sft.report.page import table
from agent_sft.report.tables import Table, markdown, terminal

BOARD = Table(
    "Scoreboard",
    ["candidate", "model", "rank", "verdict", "time"],
    [["1", "base", "8", "a tie", "58 s"], ["12", "configs/tiny", "16", "", "1 min 02 s"]],
    ["all were trained"],
)


def test_on_a_terminal_words_stand_on_the_left_and_numbers_on_the_right() -> None:
    assert terminal([BOARD]).splitlines() == [
        "Scoreboard",
        "candidate  model         rank  verdict        time",
        "1          base             8  a tie          58 s",
        "12         configs/tiny    16           1 min 02 s",
        "* all were trained",
    ]


def test_in_markdown_too() -> None:
    assert "| --- | --- | ---: | --- | ---: |" in markdown([BOARD])


def test_and_on_a_page() -> None:
    html = table(BOARD.columns, BOARD.rows)
    assert '<td class="words">configs/tiny</td><td>16</td>' in html
    assert '<th scope="col" class="words">model</th><th scope="col">rank</th>' in html
