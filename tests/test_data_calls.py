"""What a function_call turn holds, and the form that LLaMA-Factory parses."""

from __future__ import annotations

import pytest

from agent_sft.data.calls import check_calls, join_calls, parse_calls
from agent_sft.data.dialects import dialect_of
from agent_sft.data.turns import FUNCTION_CALL, Turn, Unusable

A = '{"name": "a", "arguments": {"x": 1}}'
B = '{"name":"b","arguments":{}}'
BOTH = f"[{A}, {B}]"


def written(content: str) -> str:
    return parse_calls(Turn(FUNCTION_CALL, content, 3)).render()


@pytest.mark.parametrize(
    "content",
    [
        A,
        BOTH,
        f"<think>\nwhy\n</think>\n\n{A}",
        f"<think>\n\n</think>\n\n{A}",
        f"prose\n<tool_call>\n{A}\n</tool_call>",
        f"<think>\nwhy\n</think>\n\nprose\n<tool_call>\n{BOTH}\n</tool_call>",
        f"<tool_call>\n{A}\n</tool_call>",
        '{"name": "a", "arguments": {"text": "é \\u00e9", "n": 12345678901234567890123, "f": 1.10}, "id": "c1"}',
    ],
)
def test_a_form_that_is_parsed_stays_as_it_is(content: str) -> None:
    assert written(content) == content
    assert check_calls(content, dialect_of("qwen")) is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"<think>why</think>\n{A}", f"<think>\nwhy\n</think>\n\n{A}"),
        (f"<think>why</think>{A}", f"<think>\nwhy\n</think>\n\n{A}"),
        (f"\n<think>\n\n why\nso \n</think>\n{A}\n", f"<think>\n why\nso \n</think>\n\n{A}"),
        (f" {A}\n", A),
        (f"{A}\n{B}", BOTH),
        (f"{A}\n[{B}]\n", BOTH),
        (f"<think>w</think>{A}{B}", f"<think>\nw\n</think>\n\n{BOTH}"),
        (f"say\n<tool_call>{A}</tool_call>\n", f"say\n<tool_call>\n{A}\n</tool_call>"),
        (
            f"say\n<tool_call>\n{A}\n</tool_call>\n<tool_call>\n{B}\n</tool_call>",
            f"say\n<tool_call>\n{BOTH}\n</tool_call>",
        ),
        (
            f"<tool_call>{A}</tool_call><tool_call>{A}</tool_call>",
            f"<tool_call>\n[{A}, {A}]\n</tool_call>",
        ),
        (
            '{"name": "a", "arguments": "{\\"city\\": \\"Żary\\"}"}',
            '{"name": "a", "arguments": {"city": "Żary"}}',
        ),
        ('{"name": "a", "arguments": ""}', '{"name": "a", "arguments": {}}'),
    ],
)
def test_a_form_with_a_plain_meaning_is_written_in_one_that_is_parsed(content: str, expected: str) -> None:
    assert written(content) == expected
    assert check_calls(expected, dialect_of("qwen")) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no call in it"),
        ("<think>only thoughts</think>", "no call in it"),
        ("I will look.", "not a call as JSON, near 'I will look.'"),
        (f"I will look. {A}", "not a call as JSON"),
        (f"<think>why</think> so: {A}", "not a call as JSON, near 'so: "),
        (f"<think>why {A}", "not a call as JSON"),
        (A[:-1], "not a call as JSON"),
        ("[]", "an empty list of calls"),
        ("[1]", "a call must be an object with a name and arguments, not '1'"),
        ('{"arguments": {}}', "a call without a name"),
        ('{"name": "", "arguments": {}}', "a call without a name"),
        ('{"name": "a"}', "the call of 'a' has no arguments"),
        ('{"type": "function", "function": {"name": "a", "arguments": {}}}', "a call without a name"),
        ('{"name": "a", "arguments": null}', "the arguments of 'a' are no object: 'null'"),
        ('{"name": "a", "arguments": [1]}', "are no object: '[1]'"),
        ('{"name": "a", "arguments": "{broken"}', "are no object"),
        ('{"name": "a", "arguments": {"x": "\\ud800"}}', "half a character"),
        (f"{A}\n<think>then</think>\n{B}", "not a call as JSON"),
        (f"<tool_call>{A}</tool_call> done", "words after the call"),
        (f"<tool_call>{A}</tool_call> and <tool_call>{B}</tool_call>", "words between two calls"),
        ('{"name": "a", "arguments": {"x": "<tool_call></tool_call>"}}', "no call in it"),
        ("[" * 5000, "not a call as JSON"),
    ],
)
def test_what_is_no_call_or_would_be_moved_is_refused(content: str, reason: str) -> None:
    with pytest.raises(Unusable) as caught:
        parse_calls(Turn(FUNCTION_CALL, content, 3))
    assert str(caught.value).startswith("turn 3 (function_call): ")
    assert reason in str(caught.value)


def test_calls_of_turns_in_a_row_become_a_list_but_words_stay_in_their_place() -> None:
    first = parse_calls(Turn(FUNCTION_CALL, f"<think>w</think>{A}", 2))
    second = parse_calls(Turn(FUNCTION_CALL, B, 3))
    assert join_calls(first, second, Turn(FUNCTION_CALL, B, 3)).render() == f"<think>\nw\n</think>\n\n{BOTH}"
    with pytest.raises(Unusable, match=r"turn 2 .*words or reasoning between two calls"):
        join_calls(second, first, Turn(FUNCTION_CALL, "", 2))


def test_words_before_a_call_are_kept_before_it() -> None:
    calls = parse_calls(Turn(FUNCTION_CALL, f"<think>w</think>{A}", 2))
    assert calls.after("So.").render() == f"So.\n<think>\nw\n</think>\n\n<tool_call>\n{A}\n</tool_call>"
    assert calls.after(" \n").render() == calls.render(), "an empty turn says nothing"
    bare = parse_calls(Turn(FUNCTION_CALL, A, 2))
    assert bare.after("<think>v</think>So.").render() == f"<think>\nv\n</think>\n\nSo.\n<tool_call>\n{A}\n</tool_call>"


@pytest.mark.parametrize(
    ("content", "template", "reason"),
    [
        (BOTH, "glm4", "no form for several calls"),
        (f"<think>\nw\n</think>\n\n{A}", "llama2", "nothing but JSON"),
        (f"<think>\nw\n</think>\n\n{A}", "gemma4", "this form"),
        (f"p\n<tool_call>\n{A}\n</tool_call>", "lfm2", "nothing but JSON"),
        (f"p\n<tool_call>\n{A}\n</tool_call>", "mistral", "nothing but JSON"),
        (f"<think>w</think>{A}", "qwen", "this form"),
        ('{"name": "a", "arguments": {"x": "<think>y</think>"}}', "hy3", "would be moved"),
    ],
)
def test_what_a_template_cannot_carry_is_refused(content: str, template: str, reason: str) -> None:
    assert reason in (check_calls(content, dialect_of(template)) or "")
