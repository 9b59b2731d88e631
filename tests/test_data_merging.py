"""The plain merge: what is joined, what is trimmed, what passes through as it is."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_sft.data.merging import can_merge, merge_file, merge_turns, trim_trailing
from agent_sft.data.turns import ROLES, WORDS
from agent_sft.errors import UserError


def turns(*pairs: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"from": role, "value": value} for role, value in pairs]


def test_turns_of_the_same_role_are_joined_by_a_newline() -> None:
    given_turns = turns(("human", "hi"), ("gpt", "a"), ("gpt", ""), ("gpt", "c"), ("human", "x"), ("gpt", "d"))
    assert merge_turns(given_turns) == turns(("human", "hi"), ("gpt", "a\n\nc"), ("human", "x"), ("gpt", "d"))
    assert given_turns[1]["value"] == "a", "what is given stays as it is"


def test_further_keys_of_a_turn_survive() -> None:
    merged = merge_turns([{"from": "gpt", "value": "a", "id": 1}, {"from": "gpt", "value": "b", "id": 2, "time": 3}])
    assert merged == [{"from": "gpt", "value": "a\nb", "id": 1, "time": 3}]


@pytest.mark.parametrize(
    ("roles", "left"),
    [
        ("gpt human", "gpt"),
        ("system human gpt human", "system human gpt"),  # an even number of turns
        ("human", ""),
        ("human gpt observation human", "human gpt observation"),
        ("human gpt", "human gpt"),
        ("", ""),
    ],
)
def test_no_trailing_human_turn_is_left(roles: str, left: str) -> None:
    kept = trim_trailing(turns(*((role, "x") for role in roles.split())))
    assert [turn["from"] for turn in kept] == left.split()


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from(ROLES), st.text(max_size=3))))
def test_a_merge_loses_no_text_and_leaves_nothing_to_merge(pairs: list[tuple[str, str]]) -> None:
    merged = merge_turns(turns(*pairs))
    assert all(first["from"] != second["from"] for first, second in pairwise(merged))
    for role in ROLES:
        whole = "".join(value for name, value in pairs if name == role)
        joined = "".join(turn["value"] for turn in merged if turn["from"] == role)
        assert joined.replace("\n", "") == whole.replace("\n", "")
    kept = trim_trailing(merged)
    assert not kept or kept[-1]["from"] != "human"


ODD_ROWS: list[Any] = [
    {"conversations": turns(("human", "hi"), ("gpt", None), ("gpt", None))},
    {"conversations": turns(("user", "hi"), ("user", "there"), ("human", "x"))},
    {"conversations": [{"value": "hi"}, {"value": "there"}]},
    {"conversations": [{"from": ["human"], "value": "hi"}]},
    {"conversations": [{"from": "human"}]},
    {"conversations": ["hi", "there"]},
    {"conversations": None},
    {"messages": []},
    None,
    [1],
]


def test_rows_that_cannot_be_understood_pass_through_and_are_counted(tmp_path: Path) -> None:
    good = {"conversations": turns(("human", "é"), ("gpt", "a"), ("gpt", "b")), "system": "s", "id": 7}
    source = tmp_path / "in.json"
    source.write_text(json.dumps([good, *ODD_ROWS, {"conversations": []}]))
    counts = merge_file(source, tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert written[1:] == [*ODD_ROWS, {"conversations": []}]
    assert written[0] == {**good, "conversations": turns(("human", "é"), ("gpt", "a\nb"))}
    assert (counts.conversations, counts.merged, counts.trimmed, counts.unchanged) == (12, 1, 0, 10)
    assert (counts.turns_before, counts.turns_after) == (15, 14)
    assert not any(can_merge(row) for row in ODD_ROWS)


def test_the_counts_are_told_one_a_line(tmp_path: Path) -> None:
    rows = [
        {"conversations": turns(("human", "a"), ("gpt", "b"), ("gpt", "c"), ("human", "d"), ("human", "e"))},
        {"conversations": turns(("human", "a"), ("gpt", "b"))},
    ]
    (tmp_path / "in.json").write_text(json.dumps(rows))
    assert merge_file(tmp_path / "in.json", tmp_path / "out.json").lines() == [
        "conversations processed: 2",
        "conversations with merged turns: 1",
        "conversations with a trimmed trailing human turn: 1",
        "total turns: 7 -> 4 (3 removed)",
        f"output: {tmp_path / 'out.json'}",
    ]


def test_the_layout_and_the_characters_are_kept(tmp_path: Path) -> None:
    row = {"conversations": turns(("human", "ž\n}"), ("gpt", "🙂"))}
    array, lines = tmp_path / "a.json", tmp_path / "l.jsonl"
    array.write_text(json.dumps([row, row]))
    merge_file(array, array)
    assert array.read_text(encoding="utf-8") == json.dumps([row, row], indent=2, ensure_ascii=False) + "\n"
    lines.write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n")
    merge_file(lines, lines)
    compact = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
    assert lines.read_text(encoding="utf-8") == f"{compact}\n{compact}\n"


def test_an_error_leaves_the_output_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(f"{json.dumps({'conversations': []})}\n{{broken\n")
    before = source.read_bytes()
    with pytest.raises(UserError, match="line 2"):
        merge_file(source, source)
    assert source.read_bytes() == before
    with pytest.raises(UserError, match="line 2"):
        merge_file(source, tmp_path / "new" / "deep" / "out.jsonl")
    assert list(tmp_path.iterdir()) == [source]
    with pytest.raises(UserError, match="is a folder"):
        merge_file(source, tmp_path)


def test_only_the_roles_asked_for_are_merged() -> None:
    calls = [{"from": "function_call", "value": "{}"}] * 2
    words = [{"from": "gpt", "value": "a"}, {"from": "gpt", "value": "b"}]
    assert merge_turns([*calls, *words], WORDS) == [*calls, {"from": "gpt", "value": "a\nb"}]


@pytest.mark.parametrize("layout", ["array", "lines"])
def test_half_a_character_and_a_long_number_pass_through(tmp_path: Path, layout: str) -> None:
    rows = [{"conversations": turns(("human", "cut \ud83d"), ("human", "b"), ("gpt", "a")), "n": 10**30}]
    path = tmp_path / "data.json"
    path.write_text(json.dumps(rows) if layout == "array" else json.dumps(rows[0]) + "\n")
    merge_file(path, tmp_path / "out.json")
    made = json.loads((tmp_path / "out.json").read_text())
    expected = [{"conversations": turns(("human", "cut \ud83d\nb"), ("gpt", "a")), "n": 10**30}]
    assert (made if layout == "array" else [made]) == expected
