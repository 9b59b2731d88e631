"""One row to an example, with what was done to it, or to a reason why it cannot be trained on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example as case
from hypothesis import given
from hypothesis import strategies as st

from agent_sft.data import sharegpt
from agent_sft.data.dialects import RESULT_JOINT, dialect_of
from agent_sft.data.merging import merge_turns, trim_trailing
from agent_sft.data.sharegpt import TOLD_RESULT, Example, normalise
from agent_sft.data.turns import ANSWERS, PROMPTS, ROLES, Unusable

A = '{"name": "a", "arguments": {}}'
B = '{"name": "b", "arguments": {}}'
H, G, F, R, S = "human", "gpt", "function_call", "observation", "system"
Pairs = list[tuple[str, Any]]
CALL_TEXT = f"<tool_call>\n{A}\n</tool_call>"


def row(*pairs: tuple[Any, Any], **columns: Any) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": value} for role, value in pairs], **columns}


def example(*pairs: tuple[str, Any], template: str = "qwen", **columns: Any) -> Example:
    return normalise(row(*pairs, **columns), dialect_of(template))


def pairs_of(made: Example) -> Pairs:
    return [(turn.role, turn.text) for turn in made.turns]


def reason(given_row: Any, template: str = "qwen") -> str:
    with pytest.raises(Unusable) as caught:
        normalise(given_row, dialect_of(template))
    return str(caught.value)


@pytest.mark.parametrize(
    "pairs",
    [
        [(H, "hi"), (G, "hello")],
        [(H, "hi"), (F, A), (R, "1"), (G, "done"), (H, "more"), (G, "yes")],
        [(H, "hi"), (F, A), (R, "1"), (F, B), (R, "2"), (G, "done")],
        [(H, "hi"), (G, CALL_TEXT), (R, "1"), (G, "done")],
        [(H, "hi"), (G, CALL_TEXT), (H, "<tool_response>\n1\n</tool_response>"), (G, "done")],
        [(H, "hi"), (F, f"<think>\nw\n</think>\n\n{A}")],
    ],
)
def test_what_is_right_is_left_as_it_is(pairs: Pairs) -> None:
    made = example(*pairs, system="s")
    assert pairs_of(made) == pairs
    assert not made.changes
    assert (made.system, made.tools, made.turns_read) == ("s", "", len(pairs))


def test_what_a_human_turn_says_after_a_call_is_its_result() -> None:
    told = ((H, "hi"), (G, CALL_TEXT), (H, '{"x": 1}'), (G, "done"), (H, "thanks"), (G, "bye"))
    made = example(*told)
    assert pairs_of(made) == [*told[:2], (R, '{"x": 1}'), *told[3:]]
    assert made.changes == {TOLD_RESULT: 1}
    assert pairs_of(example(*told, template="llama3")) == list(told), "only where the template wraps results"
    asked = ((H, "hi"), (G, CALL_TEXT), (R, "1"), (G, CALL_TEXT), (H, "never mind"), (G, "all right"))
    assert pairs_of(example(*asked)) == list(asked), "rows with results of their own have humans who speak"


@pytest.mark.parametrize(
    ("pairs", "expected", "changes"),
    [
        ([(H, "a"), (H, "b"), (G, "c"), (G, "d"), (G, "e")], [(H, "a\nb"), (G, "c\nd\ne")], {sharegpt.MERGED: 3}),
        ([(H, "a"), (G, "b"), (H, "c"), (H, "d")], [(H, "a"), (G, "b")], {sharegpt.MERGED: 1, sharegpt.TRIMMED: 1}),
        ([(H, "a"), (F, A), (R, "r"), (H, "c")], [(H, "a"), (F, A)], {sharegpt.TRIMMED: 2}),
        ([(G, "Hello!"), (H, "a"), (G, "b")], [(H, "a"), (G, "b")], {sharegpt.GREETING: 1}),
        (
            [(H, "a"), (G, "one moment"), (F, A), (R, "r"), (G, "b")],
            [(H, "a"), (F, f"one moment\n<tool_call>\n{A}\n</tool_call>"), (R, "r"), (G, "b")],
            {sharegpt.WORDS_WITH_CALL: 1},
        ),
        (
            [(H, "a"), (G, "x"), (G, "y"), (F, A), (F, B), (R, "r"), (G, "b")],
            [(H, "a"), (F, f"x\ny\n<tool_call>\n[{A}, {B}]\n</tool_call>"), (R, "r"), (G, "b")],
            {sharegpt.MERGED: 1, sharegpt.WORDS_WITH_CALL: 1, sharegpt.JOINED_CALLS: 1},
        ),
        (
            [(H, "a"), (F, A), (F, B), (R, "1"), (R, "2"), (R, "3"), (G, "b")],
            [(H, "a"), (F, f"[{A}, {B}]"), (R, f"1{RESULT_JOINT}2{RESULT_JOINT}3"), (G, "b")],
            {sharegpt.JOINED_CALLS: 1, sharegpt.JOINED_RESULTS: 2},
        ),
        (
            [(H, "a"), (F, f"<think>w</think>\n{A}"), (R, "1"), (G, "b")],
            [(H, "a"), (F, f"<think>\nw\n</think>\n\n{A}"), (R, "1"), (G, "b")],
            {sharegpt.CALL_FORM: 1},
        ),
        (
            [(H, "a"), (F, '{"name": "a", "arguments": "{}"}'), (R, "1"), (G, "b")],
            [(H, "a"), (F, A), (R, "1"), (G, "b")],
            {sharegpt.ARGUMENTS: 1},
        ),
    ],
)
def test_what_can_be_mended_is_mended_and_counted(pairs: Pairs, expected: Pairs, changes: dict[str, int]) -> None:
    made = example(*pairs)
    assert pairs_of(made) == expected
    assert dict(made.changes) == changes


@pytest.mark.parametrize(
    ("column", "leading", "expected"),
    [
        (None, ["s"], "s"),
        ("", ["s"], "s"),
        ("c", [""], "c"),
        ("s", ["s"], "s"),
        ("c", ["s", "t"], "c\n\ns\nt"),
    ],
)
def test_leading_system_turns_go_to_the_column_and_replace_nothing(
    column: str | None, leading: list[str], expected: str
) -> None:
    made = example(*((S, text) for text in leading), (H, "a"), (G, "b"), (H, "c"), system=column)
    assert made.system == expected
    assert pairs_of(made) == [(H, "a"), (G, "b")]
    assert made.changes[sharegpt.SYSTEM_TURN] == len(leading)


@pytest.mark.parametrize(
    ("given_row", "expected"),
    [
        (None, "the row is null, not an object"),
        ([1], "the row is an array"),
        ({}, "the row has no 'conversations'"),
        ({"messages": []}, "rows with 'messages' are not ShareGPT"),
        ({"conversations": None}, "'conversations' is null"),
        ({"conversations": "hi"}, "'conversations' is a text"),
        ({"conversations": []}, "has no turns"),
        ({"conversations": ["hi"]}, "turn 1 is a text"),
        ({"conversations": [{"value": "x"}]}, "turn 1 has no 'from'"),
        ({"conversations": [{"from": "human"}]}, "turn 1 (human) has no 'value'"),
        (row(("user", "a"), (G, "b")), "turn 1 has an unknown role, 'user': known are human, gpt"),
        (row((None, "a"), (G, "b")), "turn 1 has an unknown role, null"),
        (row((H, "a"), (G, None)), "turn 2 (gpt): its value is null, not a text"),
        (row((H, "a"), (G, {"x": 1})), "turn 2 (gpt): its value is an object"),
        (row((H, "a")), "no answer to a human turn"),
        (row((S, "s")), "no answer to a human turn"),
        (row((G, "hi")), "no answer to a human turn"),
        (row((H, "a"), (G, "b"), (S, "s"), (H, "c"), (G, "d")), "turn 3 (system): a system turn in the middle"),
        (row((H, "a"), (R, "r"), (G, "b")), "turn 2 (observation): a tool result with no call before it"),
        (row((R, "r"), (G, "b")), "turn 1 (observation): a tool result with no call before it"),
        (row((F, A), (R, "r"), (G, "b")), "turn 1 (function_call): the conversation starts with a call"),
        (row((G, "hi"), (F, A), (R, "r"), (G, "b")), "turn 1 (function_call): the conversation starts with a call"),
        (row((H, "a"), (G, "b"), (R, "r"), (G, "c")), "turn 2 (gpt) before it calls no tool"),
        (row((H, "a"), (F, A), (G, "c")), "turn 3 (gpt): the call in turn 2 has no result"),
        (row((H, "a"), (F, A), (H, "b"), (G, "c")), "turn 3 (human): the call in turn 2 has no result"),
        (row((H, "a"), (F, A), (R, "r"), (H, "b"), (G, "c")), "turn 4 (human): right after a tool result"),
        (row((H, "a"), (F, "broken"), (R, "r"), (G, "c")), "turn 2 (function_call): not a call as JSON"),
        (row((H, "{{idx}}"), (G, "c")), "turn 1 (human): LLaMA-Factory would write the turn's number"),
        (row((H, "a"), (G, "b"), system=["s"]), "'system' is an array, not a text"),
        (row((H, "<image>"), (G, "b"), images=["a.png"]), "the column 'images' is filled"),
        (row((H, "a"), (G, "b"), (H, "c"), chosen={"from": G, "value": "x"}), "the column 'chosen' is filled"),
        (row((H, "a"), (G, "b"), kto_tag=False), "the column 'kto_tag' is filled"),
        (row((H, "a"), (G, "b"), tools="x"), "'tools' is a text that is not JSON"),
    ],
)
def test_what_cannot_be_trained_on_says_why_and_where(given_row: Any, expected: str) -> None:
    assert expected in reason(given_row)


@pytest.mark.parametrize(
    ("pairs", "template", "expected"),
    [
        ([(H, "a"), (F, A), (R, "1"), (R, "2"), (G, "b")], "llama3", "turn 4 (observation): a second tool result"),
        ([(H, "a"), (G, "b"), (F, A), (R, "1"), (G, "b")], "mistral", "no form for words before a call"),
        ([(H, "a"), (F, A), (F, B), (R, "1"), (G, "b")], "glm4", "no form for several calls"),
        ([(H, "a"), (F, f"<think>w</think>{A}"), (R, "1"), (G, "b")], "llama2", "nothing but JSON"),
        ([(H, "a"), (F, A), (R, "1"), (R, "2"), (G, "b")], "nobody_knows_it", "cannot tell apart"),
    ],
)
def test_what_the_template_cannot_carry_is_refused(pairs: Pairs, template: str, expected: str) -> None:
    assert expected in reason(row(*pairs), template)


def test_what_is_worth_knowing_is_noted() -> None:
    assert not example((H, "a"), (G, "b")).notes
    assert "end with a tool call" in example((H, "a"), (F, A)).notes[0]
    assert "empty turn" in example((H, "a"), (G, " "), (H, "b"), (G, "c")).notes[0]
    assert "control tokens" in example((H, "a<|im_end|>\n<|im_start|>system"), (G, "c")).notes[0]


CONTENT = st.sampled_from(["", "text", "two\nlines", A, f"[{A}, {B}]", f"<think>w</think>\n{A}", CALL_TEXT])
CONVERSATION = st.lists(st.tuples(st.sampled_from(ROLES), CONTENT), max_size=9)


@given(CONVERSATION)
@case([(H, "x"), (G, ""), (F, f"<think>w</think>\n{A}")])
@case([(H, "x"), (G, f"<think>w</think>\n{A}"), (F, A)])
def test_every_row_is_refused_or_becomes_prompts_and_answers_in_turn(pairs: Pairs) -> None:
    try:
        made = example(*pairs)
    except Unusable:
        return
    assert len(made.turns) % 2 == 0
    assert all(turn.role in (PROMPTS, ANSWERS)[index % 2] for index, turn in enumerate(made.turns))
    assert set(made.as_row()) == {"conversations", "system", "tools"}
    again = normalise(made.as_row(), dialect_of("qwen"))
    assert made.as_row() == again.as_row(), "nothing is left to mend"


@given(st.lists(st.tuples(st.sampled_from([H, G, S]), CONTENT), max_size=9))
def test_the_merge_script_before_it_changes_nothing(pairs: Pairs) -> None:
    raw = row(*pairs)
    merged = {"conversations": trim_trailing(merge_turns(raw["conversations"]))}

    def outcome(given_row: Any) -> Any:
        try:
            return normalise(given_row, dialect_of("qwen")).as_row()
        except Unusable:
            return None

    assert outcome(raw) == outcome(merged)
