"""The other transforms that are built in, each before and after."""

from __future__ import annotations

from typing import Any

import pytest

from agent_sft.data.transforms.split import side
from agent_sft.errors import UserError
from tests.rows import changed, chat, outcomes, reason, result, said, user

# jsonl_to_chat

TOOL = {"user_template": "Query: {query}\n{{as is}}", "assistant_template": "<answer>{tool.slug}</answer>"}


def test_a_raw_row_becomes_a_chat_by_templates() -> None:
    row = {"query": "é", "tool": {"slug": "X"}, "tags": [1], "origin": {"file": "a", "row": 1}}
    assert changed("jsonl_to_chat", row, **TOOL, system_prompt="Pick {one}.") == {
        "messages": [
            {"role": "system", "content": "Pick {one}."},
            {"role": "user", "content": "Query: é\n{as is}"},
            {"role": "assistant", "content": "<answer>X</answer>"},
        ],
        "metadata": {"query": "é", "tool": {"slug": "X"}, "tags": [1]},
        "origin": {"file": "a", "row": 1},
    }


def test_what_is_no_text_is_rendered_as_json() -> None:
    row = changed("jsonl_to_chat", {"a": [1, "é"], "b.c": True}, user_template="{a}", assistant_template="{b.c}")
    assert [message["content"] for message in row["messages"]] == ['[1,"é"]', "true"]


@pytest.mark.parametrize("row", [{"query": "a"}, {"query": "a", "tool": {}}, {"query": "a", "tool": {"slug": None}}])
def test_a_key_that_the_row_lacks_is_an_error_or_a_reject(row: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"'tool\.slug', which the template asks for"):
        outcomes("jsonl_to_chat", row, **TOOL)
    assert "'tool.slug'" in reason("jsonl_to_chat", row, **TOOL, on_missing="reject")


@pytest.mark.parametrize("template", ["{}", "{0!r}", "{a:>3}", "{", "{a"])
def test_a_template_that_cannot_be_meant_is_refused(template: str) -> None:
    with pytest.raises(UserError, match="'user_template' of 'jsonl_to_chat'"):
        outcomes("jsonl_to_chat", {}, user_template=template, assistant_template="x")


# merge_turns


def test_what_one_speaker_says_in_several_turns_becomes_one() -> None:
    row = chat(user("a"), user("b"), said("c"), said("d", ("f", {})), result("1"), result("2"), said("e"))
    merged = chat(user("a\nb"), said("c\nd", ("f", {})), result("1"), result("2"), said("e"))
    assert changed("merge_turns", row) == merged
    assert changed("merge_turns", merged) == merged


def test_calls_in_a_row_become_one_turn_with_both() -> None:
    first, second = said("a", ("f", {})), said(None, ("g", {}))
    merged = changed("merge_turns", chat(user("x"), first, second))["messages"][1]
    assert [call["function"]["name"] for call in merged["tool_calls"]] == ["f", "g"]
    assert merged["content"] == "a"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (said("a", ("f", {})), said("b")),
        (said("<tool_call>\n{}\n</tool_call>"), said("b")),
        (said("a"), said("b", reasoning_content="r")),
        (said("a", supervise=True), said("b", supervise=False)),
    ],
)
def test_turns_stay_apart_where_joining_would_change_what_was_said(first: Any, second: Any) -> None:
    row = chat(user("x"), first, second)
    assert changed("merge_turns", row) is row


def test_reasoning_before_the_first_words_stays_there() -> None:
    row = chat(user("x"), said("a", reasoning_content="r"), said("b"))
    assert changed("merge_turns", row, joint=" ") == chat(user("x"), said("a b", reasoning_content="r"))


# trim_trailing


def test_turns_that_nothing_answers_go() -> None:
    assert changed("trim_trailing", chat(user("a"), said("b"), result("c"), user("d"))) == chat(user("a"), said("b"))
    assert "says nothing" in reason("trim_trailing", chat(user("a")))


# dedup, filter, sample, split


def numbered(*texts: str, **further: Any) -> list[dict[str, Any]]:
    return [
        {**chat(user(text), said("x")), "origin": {"file": "f", "row": number}, **further}
        for number, text in enumerate(texts, start=1)
    ]


def test_of_equal_rows_the_first_stays() -> None:
    found = outcomes("dedup", *numbered("a", "b", "a", "a"))
    assert [one.fate for one in found] == ["kept", "kept", "left out", "left out"]
    assert found[2].notes == ("the same as row 1 of f",)
    by_task = numbered("a", metadata={"task": 1}) + numbered("b", metadata={"task": 1}) + numbered("c")
    assert [one.fate for one in outcomes("dedup", *by_task, by=["metadata.task"])] == ["kept", "left out", "kept"]


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ({"field": "metadata.reward", "min": 0.6}, "metadata.reward is 0.5, below 0.6"),
        ({"field": "metadata.reward", "max": 0.4}, "metadata.reward is 0.5, above 0.4"),
        ({"field": "metadata.won", "equals": 1}, "metadata.won is true, not 1"),
        ({"field": "metadata.won", "not_equals": True}, "metadata.won is true"),
        ({"field": "metadata.won", "min": 0}, "metadata.won is true, no number"),
        ({"field": "metadata.other", "min": 0}, "has no metadata.other"),
        ({"field": "metadata.won", "exists": False}, "has metadata.won"),
        ({"field": "messages.-1.content", "matches": "^b"}, "messages.-1.content does not match ^b"),
        ({"field": "metadata.lang", "one_of": ["en", "fr"]}, 'metadata.lang is de, none of ["en", "fr"]'),
        ({"field": "turns", "min": 3}, "turns is 2, below 3"),
        ({"field": "characters", "max": 4}, "characters is 5, above 4"),
    ],
)
def test_rows_that_are_not_as_asked_for_are_left_out_with_the_reason(condition: dict[str, Any], why: str) -> None:
    row = chat(user("frage"[:2]), said("ant"), metadata={"reward": 0.5, "won": True, "lang": "de"})
    (outcome,) = outcomes("filter", row, where=[condition])
    assert (outcome.fate, outcome.notes) == ("left out", (why,))
    assert changed("filter", row, where=[{"field": "metadata.reward", "min": 0.5, "max": 0.5}]) is row


def test_a_condition_that_asks_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"nothing is asked of 'a'"):
        outcomes("filter", chat(), where=[{"field": "a"}])


def test_a_sample_is_the_same_for_the_same_seed_and_in_the_order_of_the_rows() -> None:
    rows = numbered(*map(str, range(50)))
    kept = [one.row["origin"]["row"] for one in outcomes("sample", *rows, n=10, seed=1) if one.fate == "kept"]
    again = [one.row["origin"]["row"] for one in outcomes("sample", *rows, n=10, seed=1) if one.fate == "kept"]
    other = [one.row["origin"]["row"] for one in outcomes("sample", *rows, n=10, seed=2) if one.fate == "kept"]
    assert kept == again == sorted(kept) != other
    assert len(kept) == len(set(kept)) == 10
    assert len(outcomes("sample", *rows, n=10)) == 50
    assert [one.fate for one in outcomes("sample", *rows[:3], n=10)] == ["kept"] * 3


def test_every_row_has_the_same_chance_of_being_drawn() -> None:
    drawn = [0] * 8
    for seed in range(400):
        for one in outcomes("sample", *numbered(*"abcdefgh"), n=2, seed=seed):
            drawn[one.row["origin"]["row"] - 1] += one.fate == "kept"
    assert all(70 < count < 130 for count in drawn), drawn  # 100 expected, standard deviation 8.7


def test_no_group_is_in_both_sets() -> None:
    rows = [chat(user(str(number)), said("x"), metadata={"task": number // 4}) for number in range(400)]
    sides: dict[int, set[str]] = {}
    for one in outcomes("split", *rows, by="metadata.task", eval=0.25):
        sides.setdefault(one.row["metadata"]["task"], set()).add(one.row["split"])
    assert all(len(found) == 1 for found in sides.values())
    held_out = sum(found == {"eval"} for found in sides.values())
    assert 10 <= held_out <= 40  # 25 expected of 100
    assert side("a", 0.5) == side("a", 0.5)
    assert {side(str(number), 0.5, seed) for number in range(9) for seed in (0, 1)} == {"train", "eval"}


def test_a_row_without_a_group_is_a_reject() -> None:
    assert "has no metadata.task" in reason("split", chat(user("a"), said("b")), by="metadata.task")
