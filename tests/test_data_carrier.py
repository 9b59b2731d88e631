"""Conversations carried to LLaMA-Factory: what the plain merge loses there is kept, split or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_sft.data.carrier import FOLDED, LEFT_OFF, SPLIT, WRAPPED, carry
from agent_sft.data.conversation import Conversation, Origin, ToolCall, Turn
from agent_sft.data.dialects import RESULT_JOINT, dialect_of
from agent_sft.data.formats import sharegpt
from agent_sft.data.merging import merge_turns
from agent_sft.data.turns import FUNCTION_CALL as F
from agent_sft.data.turns import GPT as G
from agent_sft.data.turns import HUMAN as H
from agent_sft.data.turns import OBSERVATION as R
from agent_sft.data.turns import SYSTEM as S
from agent_sft.data.turns import Unusable
from tests.accepting import ask

ORIGIN = Origin(file="f", row=1)
A = '{"name": "look", "arguments": {"id": 7}}'
B = '{"name": "pay", "arguments": {"é": [1, null]}}'
BLOCK_A = f"<tool_call>\n{A}\n</tool_call>"
BLOCK_B = f"<tool_call>\n{B}\n</tool_call>"
CALL_A = ToolCall(name="look", arguments={"id": 7})
CALL_B = ToolCall(name="pay", arguments={"é": [1, None]})

Pairs = list[tuple[str, Any]]


def row(pairs: Pairs, **columns: Any) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": text} for role, text in pairs], **columns}


def naive(given: dict[str, Any]) -> dict[str, Any]:
    """What merging equal roles, and dropping a last human turn where the count is odd, leaves."""
    turns = merge_turns(given["conversations"])
    if len(turns) % 2 and turns[-1]["from"] == H:
        turns = turns[:-1]
    return {"system": "", "tools": "", **given, "conversations": turns}


def carried(given: dict[str, Any], template: str = "qwen") -> list[Pairs]:
    examples = carry(sharegpt.read(given, ORIGIN), dialect_of(template))
    return [[(turn.role, turn.text) for turn in example.turns] for example in examples]


TABLE: dict[str, tuple[dict[str, Any], bool, list[Pairs], list[Pairs]]] = {
    "words before a call": (
        row([(H, "q"), (G, "wait"), (F, A), (R, "1"), (G, "ok")]),
        False,
        [[(H, "q"), (G, f"wait\n{BLOCK_A}"), (R, "1"), (G, "ok")]],
        [[(H, "q"), (F, f"wait\n{BLOCK_A}"), (R, "1"), (G, "ok")]],
    ),
    "two calls, two results": (
        row([(H, "q"), (F, f"[{A}, {B}]"), (R, "1"), (R, "2"), (G, "ok")]),
        True,
        [[(H, "q"), (G, f"{BLOCK_A}\n{BLOCK_B}"), (R, f"1{RESULT_JOINT}2"), (G, "ok")]],
        [[(H, "q"), (F, f"[{A}, {B}]"), (R, f"1{RESULT_JOINT}2"), (G, "ok")]],
    ),
    "a call without a result": (
        row([(H, "q"), (F, A), (G, "well"), (H, "p"), (G, "ok")]),
        False,
        [[(H, "q"), (G, BLOCK_A)], [(H, "p"), (G, "ok")]],
        [[(H, "q"), (F, A)], [(H, "p"), (G, "ok")]],
    ),
    "the user after a result": (
        row([(H, "q"), (F, A), (R, "1"), (H, "and?"), (G, "ok")]),
        False,
        [[(H, "q"), (G, BLOCK_A), (H, "<tool_response>\n1\n</tool_response>\nand?"), (G, "ok")]],
        [],
    ),
    "a greeting first": (
        row([(G, "hello"), (H, "q"), (G, "ok")]),
        False,
        [[(H, "q"), (G, "ok")]],
        [[(H, "q"), (G, "ok")]],
    ),
    "the user last": (
        row([(H, "q"), (G, "a"), (H, "p")]),
        True,
        [[(H, "q"), (G, "a")]],
        [[(H, "q"), (G, "a")]],
    ),
    "a result at the end": (
        row([(H, "q"), (G, "a"), (H, "p"), (F, A), (R, "1")]),
        False,
        [[(H, "q"), (G, "a"), (H, "p"), (G, BLOCK_A)]],
        [[(H, "q"), (G, "a"), (H, "p"), (F, A)]],
    ),
    "a system turn first, the user last": (
        row([(S, "be kind"), (H, "q"), (G, "a"), (H, "p")]),
        False,
        [[(H, "q"), (G, "a")]],
        [[(H, "q"), (G, "a")]],
    ),
    "a system turn in the middle": (
        row([(H, "q"), (G, "a"), (S, "be brief"), (H, "p"), (G, "b")]),
        False,
        [[(H, "q"), (G, "a"), (H, "<system>\nbe brief\n</system>\np"), (G, "b")]],
        [[(H, "q"), (G, "a"), (H, "<system>\nbe brief\n</system>\np"), (G, "b")]],
    ),
    "roles by other names": (
        row([("user", "q"), ("assistant", "a")]),
        False,
        [[(H, "q"), (G, "a")]],
        [[(H, "q"), (G, "a")]],
    ),
    "results told by the user": (
        row([(H, "q"), (G, f"wait\n{BLOCK_A}"), (H, "1"), (G, "ok")]),
        True,
        [[(H, "q"), (G, f"wait\n{BLOCK_A}"), (R, "1"), (G, "ok")]],
        [[(H, "q"), (F, f"wait\n{BLOCK_A}"), (R, "1"), (G, "ok")]],
    ),
    "no text but calls": (
        {"conversations": [
            {"from": H, "value": "q"},
            {"from": G, "value": None, "tool_calls": [{"function": {"name": "look", "arguments": '{"id": 7}'}}]},
            {"from": R, "value": "1"},
            {"from": G, "value": "ok"},
        ]},
        False,
        [[(H, "q"), (G, BLOCK_A), (R, "1"), (G, "ok")]],
        [[(H, "q"), (F, A), (R, "1"), (G, "ok")]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_what_the_plain_merge_cannot_save_is_carried_over(name: str) -> None:
    given, _, hermes, portable = TABLE[name]
    assert carried(given) == hermes
    if portable:
        assert carried(given, "qwen3_5") == portable
    else:
        with pytest.raises(Unusable, match="right after a tool result"):
            carried(given, "llama3")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(H, "q"), (R, "1"), (G, "a")], "turn 2 (tool): a tool result with no call before it"),
        ([(H, "q"), (F, A), (R, "1"), (R, "2"), (G, "a")], "turn 4 (tool): a tool result more than there are calls"),
        ([(H, "q"), (F, f"[{A}, {A}, {B}]"), (R, "1"), (R, "2"), (G, "a")], "turn 2 (assistant): 3 calls, but 2"),
        ([(H, "q"), (G, None)], "turn 2 (gpt): its value is null"),
        ([(H, "q"), (S, "now"), (G, "a")], "turn 3 (assistant): after a system turn"),
        ([(F, A), (R, "1"), (G, "a")], "starts with a call"),
    ],
)
def test_what_nothing_can_carry_is_refused_with_the_turn(pairs: Pairs, message: str) -> None:
    with pytest.raises(Unusable) as caught:
        carried(row(pairs))
    assert message in str(caught.value)


def test_every_change_is_counted_and_no_turn_is_forgotten() -> None:
    pairs = [
        (H, "q"),
        (F, A),
        (G, "well"),
        (G, "hm"),
        (H, "p"),
        (F, B),
        (R, "1"),
        (H, "x"),
        (S, "s"),
        (H, "y"),
        (G, "b"),
    ]
    conversation = sharegpt.read(row(pairs), ORIGIN)
    first, second = carry(conversation, dialect_of("qwen"))
    assert first.turns_read + second.turns_read == len(conversation.turns)
    assert dict(first.changes) == {}
    assert dict(second.changes) == {SPLIT: 1, LEFT_OFF: 2, WRAPPED: 1, FOLDED: 1, "merged consecutive turns": 1}


def test_hermes_text_is_what_the_chat_template_renders_and_reasoning_has_one_form() -> None:
    turns = (
        Turn(role="user", text="q"),
        Turn(role="assistant", text="wait", reasoning="hm", calls=(CALL_A, CALL_B)),
        Turn(role="tool", text="1"),
        Turn(role="tool", text="2"),
        Turn(role="assistant", text="ok"),
    )
    conversation = Conversation(turns=turns, origin=ORIGIN)
    [example] = carry(conversation, dialect_of("qwen3"))
    assert example.turns[1].text == f"<think>\nhm\n</think>\n\nwait\n{BLOCK_A}\n{BLOCK_B}"
    [example] = carry(conversation, dialect_of("qwen3_5"))
    assert example.turns[1].text == f"<think>\nhm\n</think>\n\nwait\n<tool_call>\n[{A}, {B}]\n</tool_call>"


@pytest.mark.slow
def test_llamafactory_takes_all_that_is_carried_and_not_what_was_merged(train_python: Path, tmp_path: Path) -> None:
    rows, expected, plain = {"qwen": [], "qwen3_5": []}, [], []  # type: ignore[var-annotated]
    for given, accepted, _, portable in TABLE.values():
        plain.append(naive(given))
        expected.append(accepted)
        for template in ("qwen", *(["qwen3_5"] if portable else [])):
            examples = carry(sharegpt.read(given, ORIGIN), dialect_of(template))
            rows[template] += [example.as_row() for example in examples]
    joined = naive(row([(H, "q"), (F, A), (F, B), (R, "1"), (G, "ok")]))
    batches = [*rows.items(), ("qwen", plain), ("qwen", [joined])]
    hermes, portable_answers, merged, [twice] = ask(train_python, {"batches": batches}, tmp_path)
    assert all(answer["error"] is None for answer in hermes + portable_answers)
    assert [answer["error"] is None for answer in merged] == expected
    assert "tokenising" in twice["error"], "two calls joined as text end the training"
    both = next(answer["trained"] for answer in hermes if BLOCK_B in answer["trained"])
    assert f"{BLOCK_A}\n{BLOCK_B}<|im_end|>\n" in both
    told = hermes[-2]["text"]
    assert "<|im_start|>user\n<tool_response>\n1\n</tool_response><|im_end|>" in told
