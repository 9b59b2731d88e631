"""Rows to examples: what is too long, and which answers carry loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent_sft.data.fitting import DROPPED, SPLIT, SUPERVISED, TOO_LONG, TRIMMED, UNSUPERVISED, Counts, Fitting
from agent_sft.data.overflow import Window
from agent_sft.data.supervision import is_flagged, supervised_pairs

CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'


def turns(*answers: str, flags: dict[int, bool] | None = None) -> list[dict[str, Any]]:
    """Turns with these answers; `{` begins a call in a turn of its own."""
    made: list[dict[str, Any]] = []
    for number, answer in enumerate(answers):
        made.append({"from": "observation" if number and answers[number - 1] == "{" else "human", "value": "q"})
        role, text = ("function_call", '{"name": "f", "arguments": {}}') if answer == "{" else ("gpt", answer)
        flag = {"supervise": flags[number]} if flags and number in flags else {}
        made.append({"from": role, "value": text, **flag})
    return made


def row(*answers: str, flags: dict[int, bool] | None = None) -> dict[str, Any]:
    return {"conversations": turns(*answers, flags=flags), "system": "s", "tools": "t"}


MIXED = ("a", "{", "b", CALL, "c")


@pytest.mark.parametrize(
    ("supervise", "pairs"),
    [
        ("all_assistant", [0, 1, 2, 3, 4]),
        ("last_assistant", [4]),
        ("final_answer", [4]),
        ("tool_calls", [1, 3]),
    ],
)
def test_the_run_says_which_answers_carry_loss(supervise: Any, pairs: list[int]) -> None:
    assert supervised_pairs(turns(*MIXED), supervise) == pairs


def test_the_final_answer_is_words() -> None:
    assert supervised_pairs(turns("a", "b", "{"), "final_answer") == [1]
    assert supervised_pairs(turns("{", CALL), "final_answer") == []


def test_a_turn_speaks_for_itself() -> None:
    flagged = turns(*MIXED, flags={0: True, 3: False})
    assert is_flagged(flagged)
    assert not is_flagged(turns(*MIXED))
    assert supervised_pairs(flagged, "tool_calls") == [0, 1]
    assert supervised_pairs(flagged, "all_assistant") == [0, 1, 2, 4]


def fitting(**changed: Any) -> Fitting:
    given: dict[str, Any] = {"cutoff": 100, "on_overflow": "trim", "supervise": "all_assistant", "masked": False}
    return Fitting(**{**given, **changed})


COUNTS = Counts(((60, 10), (10, 10), (10, 10)), head=40, extra=0)
"""110 tokens."""


def test_a_row_that_is_too_short_to_be_cut_is_trained_on_as_it_is() -> None:
    found = fitting().apply(row("a", "b"), None)
    assert (found.rows, found.fate) == ((row("a", "b"),), None)


def test_a_long_row_ends_at_a_pair_and_keeps_its_head() -> None:
    found = fitting().apply(row("a", "b", "c"), COUNTS)
    assert found.rows == (row("a", "b"),)
    assert found.as_json() == {
        "what": TRIMMED,
        "examples": 1,
        "turns": 6,
        "turns_kept": 4,
        "tokens": 110,
        "tokens_trained": 90,
        "loss_tokens": 20,
    }


def test_windows_repeat_the_head() -> None:
    found = fitting(on_overflow="split").apply(row("a", "b", "c"), COUNTS)
    assert found.rows == (row("a", "b"), row("c"))
    assert (found.fate, found.turns_kept, found.tokens_trained, found.loss_tokens) == (SPLIT, 6, 90 + 60, 30)


def test_the_tokens_with_loss_are_those_of_the_answers_that_carry_it() -> None:
    whole = Window(0, 3)
    assert (COUNTS.loss_of(whole), COUNTS.loss_of(whole, last=True)) == (30, 10)
    assert replace(COUNTS, extra=1, ends=1).loss_of(whole) == 33
    assert replace(COUNTS, prompts=True).loss_of(Window(1, 3)) == 40 + 40
    found = fitting(cutoff=200, supervise="tool_calls", masked=True).apply(row("a", CALL, "c"), COUNTS)
    assert (found.tokens_trained, found.loss_tokens) == (90, 10)


@pytest.mark.parametrize(("policy", "fate"), [("drop", DROPPED), ("error", TOO_LONG)])
def test_a_long_row_is_dropped_or_refused_when_that_is_asked_for(policy: Any, fate: str) -> None:
    found = fitting(on_overflow=policy).apply(row("a", "b", "c"), COUNTS)
    assert (found.rows, found.fate, found.turns_kept) == ((), fate, 0)


def test_every_call_becomes_the_end_of_an_example() -> None:
    found = fitting(supervise="tool_calls", masked=True).apply(row("{", "a", "{"), None)
    assert found.rows == (row("{"), row("{", "a", "{"))
    assert found.fate == SUPERVISED


def test_the_last_answer_that_is_left_after_trimming_carries_the_loss() -> None:
    found = fitting(supervise="last_assistant", masked=True).apply(row("a", "b", "c"), COUNTS)
    assert (found.rows, found.fate) == ((row("a", "b"),), TRIMMED)


def test_a_row_without_any_turn_to_learn_from_is_left_out() -> None:
    found = fitting(supervise="tool_calls", masked=True).apply(row("a"), None)
    assert (found.rows, found.fate) == ((), UNSUPERVISED)


def test_what_only_concerns_us_is_not_written_for_the_trainer() -> None:
    found = fitting(masked=True).apply(row("a", "b", flags={0: False}), None)
    assert found.rows == (row("a", "b"),)
