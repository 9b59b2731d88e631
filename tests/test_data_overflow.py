"""What becomes of conversations that are too long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent_sft.data.cutoffs import CutoffTable, neighbours
from agent_sft.data.fitting import Counts
from agent_sft.data.overflow import MARGIN, Window, beginnings, cut_row, fit, most_tokens
from tests.accepting import ask

PAIRS = [(100, 10), (20, 10), (30, 10), (40, 10)]
"""230 tokens; of the first prompt, 80 are the system text."""


@pytest.mark.parametrize("policy", ["trim", "split", "drop", "error"])
def test_a_conversation_that_fits_exactly_stays_whole(policy: Any) -> None:
    assert fit(PAIRS, 230, policy, head=80).whole
    assert not fit(PAIRS, 229, policy, head=80).whole
    assert not fit(PAIRS, 230, policy, head=80, extra=1).whole


@pytest.mark.parametrize(("cutoff", "kept"), [(229, 3), (180, 3), (179, 2), (140, 2), (139, 1), (110, 1), (109, 0)])
def test_trimming_keeps_whole_pairs_from_the_start(cutoff: int, kept: int) -> None:
    found = fit(PAIRS, cutoff, "trim")
    assert found.windows == ((Window(0, kept),) if kept else ())
    assert (found.kept_pairs, found.tokens) == (kept, 230)


@pytest.mark.parametrize("policy", ["drop", "error"])
def test_dropping_keeps_nothing_of_a_long_conversation(policy: Any) -> None:
    assert fit(PAIRS, 229, policy).windows == ()


def test_splitting_makes_windows_that_hold_the_system_text_again() -> None:
    # The second window: 80 of the system text, 30 + 10 + 40 + 10 of its pairs, and the margin.
    assert fit(PAIRS, 170 + MARGIN, "split", head=80, starts=(0, 1, 2, 3)).windows == (Window(0, 2), Window(2, 4))
    narrower = fit(PAIRS, 169 + MARGIN, "split", head=80, starts=(0, 1, 2, 3))
    assert narrower.windows == (Window(0, 2), Window(2, 3), Window(3, 4))


def test_no_window_begins_with_the_result_of_a_call() -> None:
    # Pair 1 answers a tool's result: the window ends before pair 2, where a person speaks again.
    assert fit(PAIRS, 178, "split", head=80, starts=(0, 2)).windows == (Window(0, 2), Window(2, 4))
    # Not even one round fits: its end is left out, and the next window begins with the next person's words.
    assert fit([(100, 10), (50, 10), (9, 9)], 130, "split", head=80, starts=(0, 2)).windows == (
        Window(0, 1),
        Window(2, 3),
    )


def turn(role: str, text: str) -> dict[str, str]:
    return {"from": role, "value": text}


CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
ROW = {
    "conversations": [
        turn("human", "a"),
        turn("function_call", '{"name": "f", "arguments": {}}'),
        turn("observation", "r"),
        turn("gpt", CALL),
        turn("human", "the result, in the form without roles of its own"),
        turn("gpt", "b"),
        turn("human", "c"),
        turn("gpt", "d"),
    ],
    "system": "s",
    "tools": "",
}


def test_a_person_begins_where_no_call_was_answered() -> None:
    assert beginnings(ROW["conversations"]) == [0, 3]  # type: ignore[arg-type]


def test_a_cut_row_keeps_system_text_and_tools() -> None:
    cut = cut_row(ROW, Window(3, 4))
    assert cut == {"conversations": [turn("human", "c"), turn("gpt", "d")], "system": "s", "tools": ""}


def test_the_table_says_what_each_cutoff_leaves() -> None:
    table = CutoffTable.of("trim", [110, 230, 50])
    table.add(Counts(tuple(PAIRS), head=80))
    table.add(Counts(((30, 5),)))
    assert table.cells() == [
        ["50", "1", "0", "1", "1", "2 (20%)", "5 (11%)"],
        ["110", "1", "1", "0", "2", "4 (40%)", "15 (33%)"],
        ["230", "2", "0", "0", "2", "10 (100%)", "45 (100%)"],
    ]
    table.add_short(5)
    assert table.cells()[0] == ["50", "2", "0", "1", "2", "12 (60%)", "5 (11%)"]
    assert table.header()[-1] == "loss tokens of long rows"
    assert table.as_json()["cutoffs"][2]["pairs_kept"] == 10


def test_a_table_shows_the_cutoff_among_others() -> None:
    assert neighbours(100, lower=True) == [25, 50, 100, 200, 400]
    assert neighbours(100, lower=False) == [100, 200, 400]


def rows_that_grow() -> list[dict[str, Any]]:
    """Rows that templates and tokenizers make as much longer as they can."""
    many = {f"k{number}": {"type": "string", "description": "d"} for number in range(30)}
    tools = [
        {"name": f"t{n}", "description": "d", "parameters": {"type": "object", "properties": many}} for n in (1, 2)
    ]
    call = {"name": "t", "arguments": {f"a{n}": n for n in range(50)}}
    tight = {"separators": (",", ":")}
    rows = []
    for value in ("", "x", json.dumps(call, **tight), "é" * 500):  # type: ignore[arg-type]
        called = json.dumps(call, **tight)  # type: ignore[arg-type]
        turns = [
            turn("human", value),
            turn("function_call", called),
            turn("observation", value),
            turn("gpt", value),
        ] * 3
        for given in ("", json.dumps(tools, **tight)):  # type: ignore[arg-type]
            rows.append({"conversations": turns, "system": value, "tools": given})
    return rows


@pytest.mark.slow
def test_no_template_writes_more_than_the_bound(train_python: Path, tmp_path: Path) -> None:
    """A token for each byte is the most that there can be."""
    rows = rows_that_grow()
    templates = sorted(ask(train_python, {"registry": True}, tmp_path))
    answers = ask(train_python, {"batches": [[name, rows] for name in templates]}, tmp_path)
    looked_at = 0
    for name, answer in zip(templates, answers, strict=True):
        for row, found in zip(rows, answer, strict=True):
            if found["error"] is None:
                looked_at += 1
                assert len(found["text"].encode()) <= most_tokens(row), name
    assert looked_at > 5 * len(templates)


def test_the_bound_counts_what_normalising_makes_longer() -> None:
    row = {"conversations": [turn("human", "ﷺ" * 100), turn("gpt", "")], "system": "", "tools": ""}
    assert most_tokens(row) > 33 * 100
