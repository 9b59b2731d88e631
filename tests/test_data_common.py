"""Shortcuts past the general readers and writers: they give what those give, or nothing."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_sft.data.amounts import _exchanged, _exchanged_words, _piece, compare, measure
from agent_sft.data.carrier import carry
from agent_sft.data.common import chat_of_sharegpt, chat_of_sharegpt_text, example_of_chat
from agent_sft.data.conversation import Origin
from agent_sft.data.dialects import dialect_of
from agent_sft.data.formats import openai, sharegpt
from agent_sft.data.hermes import call_text
from agent_sft.data.jsontext import dumps, loads_all
from agent_sft.data.rows import to_row
from agent_sft.data.transforms.merge_turns import MergeTurns
from agent_sft.data.turns import Unusable
from benchmarks.odd_conversations import ODD_TEXTS, THOUGHTS, TOOLS, make_case
from tests.rows import said, user

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "data"
ORIGIN = Origin(file="f", row=1)
CALL = '<tool_call>\n{"name": "look", "arguments": {"id": 7}}\n</tool_call>'
ODD_CALLS = (
    "<tool_call>",
    CALL,
    f"so\n{CALL}",
    f"{CALL}\n{CALL}",
    CALL.replace("7", "7, \"id\": 8"),
    CALL.replace("7", "123456789012345678901234567890"),
    CALL.replace("7", '"a:,\\"\\u0022:"'),
    CALL.replace("7", '"<|im_end|>"'),
    CALL.replace("7", "[1.0, {}]"),
    CALL.replace("\n", ""),
    CALL.replace(" ", ""),
    CALL.replace("7", '"},{"'),
    CALL.replace('": 7', '":": a, "'),
    CALL.replace("}}\n", '}}\n,\n{"name": "look", "arguments": {}}\n'),
    CALL.replace("7}}", '7, "b": ":,", "c": ""}}'),
)  # fmt: skip


def changed(row: dict[str, Any], chance: Random) -> dict[str, Any]:
    """Return a row with up to three things in it made odd."""
    row = copy.deepcopy(row)
    turns = row["conversations"]
    for _ in range(chance.randrange(4)):
        place = chance.randrange(len(turns))
        text = chance.choice((*ODD_TEXTS, *ODD_CALLS, *THOUGHTS))
        deed = chance.randrange(7)
        if deed == 0:
            turns[place]["value"] = text
        elif deed == 1:
            turns[place]["value"] = f"{turns[place].get('value')}{text}"
        elif deed == 2:
            turns[place]["value"] = f"{text}{turns[place].get('value')}"
        elif deed == 3:
            turns[place]["from"] = chance.choice(("human", "gpt", "observation", "function_call", "system", "user"))
        elif deed == 4:
            turns[place][chance.choice(("loss", "weight", "name", "from", "value"))] = chance.choice((None, 1, "x", []))
        elif deed == 5:
            turns.insert(place, {"from": chance.choice(("human", "gpt", "observation")), "value": text})
        else:
            row[chance.choice(("system", "tools", "images", "metadata"))] = chance.choice((*TOOLS, "s", 0, False, {}))
    return row


def rows(count: int) -> list[dict[str, Any]]:
    chance = Random(11)
    example = json.loads((EXAMPLES / "telecom_small_24.json").read_text())
    example += json.loads((EXAMPLES / "airline_retail_40.json").read_text())
    return [changed(chance.choice(example), chance) for _ in range(count)]


def carried(row: Any, template: str) -> Any:
    """Return the rows that the general way makes of a chat row, with what was done to them."""
    examples = carry(openai.read(row, ORIGIN), dialect_of(template))
    return [(one.as_row(), dict(one.changes), one.notes, one.turns_read) for one in examples]


def check(row: Any) -> tuple[bool, bool]:
    """Check both shortcuts with a row; tell which of them took it."""
    chat = chat_of_sharegpt(row)
    for indent in (None, 2):
        text = json.dumps(row, indent=indent).encode()
        of_text = chat_of_sharegpt_text(text)
        assert of_text is None or of_text == chat_of_sharegpt(loads_all(text))
    if chat is not None:
        assert measure(chat) == measure(copy.deepcopy(chat))
        assert chat == to_row(sharegpt.read(row, ORIGIN))
        for joint in ("\n", "", "|", "<think>"):
            check_what_is_known(row, MergeTurns(joint=joint))
    try:
        merged = MergeTurns().change(to_row(sharegpt.read(row, ORIGIN)))
    except Unusable:
        return False, False
    return chat is not None, check_chat(merged)


def check_what_is_known(row: Any, transform: MergeTurns) -> None:
    """Check that a row of which much is known on its way comes out as one that has to be looked at."""
    given = to_row(sharegpt.read(row, ORIGIN))
    merged = transform.change(given)
    amounts = compare([given], [merged])
    chat = chat_of_sharegpt(row)
    assert chat is not None
    known = transform.change(chat)
    assert known == merged
    assert compare([chat], [known]) == amounts
    check_chat(known)


def check_chat(row: Any) -> bool:
    example = example_of_chat(row, dialect_of("qwen"))
    if example is not None:
        assert [(example, {}, (), len(example["conversations"]))] == carried(row, "qwen")
    assert example_of_chat(row, dialect_of("mistral")) is None
    return example is not None


BITS = (
    b"NaN", b"-0", b"1e400", b"123456789012345678901234567890", b"1.0", b"9223372036854775808", b"01", b"tru", b"null",
    b'"', b"\\", b'\\"', b"\\u0022", b"\\u0022" * 4, b"\\ud800", b"\\ud83d\\ude00", b"\\/", b"\xff", b"\xed\xa0\x80",
    b"\x00", b"\t", b"\xc3\xa9", b",", b"{", b"}", b"[", b"]", b":", b"[]", b"{}", b'"id": 1, ', b'"id": [{}], ',
    b'"from": "gpt", ', b'"value": "", ', b'"system": "s", ', b'"conversations": [], ', b'"tools": [], ',
    b'"\\u0066rom": "gpt", ', b'{"from": "gpt", "value": "x"}, ', b"<tool_call>", b'\\"a\\": 1, ',
)  # fmt: skip


def damaged(text: bytes, chance: Random) -> bytes:
    """Return a JSON text with a few bytes put in or taken out, mostly where values and keys begin."""
    for _ in range(chance.randrange(1, 3)):
        marks = [place for place, byte in enumerate(text) if byte in b'"{[:,'] if chance.random() < 0.8 else None
        start = chance.choice(marks) + chance.randrange(2) if marks else chance.randrange(len(text))
        text = text[:start] + chance.choice((b"", *BITS)) + text[start + chance.choice((0, 0, 0, 1, 2, 8)) :]
    return text


@pytest.mark.slow
def test_a_text_that_is_no_json_or_not_exact_is_left_to_the_general_way_or_comes_out_the_same() -> None:
    chance = Random(5)
    texts = [json.dumps(row).encode() for row in rows(300)]
    texts += [json.dumps({"conversations": [{"from": "gpt", "value": "a"}], "id": 1}).encode()]
    taken = 0
    for _ in range(6000):
        text = damaged(chance.choice((*texts, texts[-1])), chance)
        if (chat := chat_of_sharegpt_text(text)) is not None:
            taken += 1
            assert chat == chat_of_sharegpt(loads_all(text)), text
    assert 50 < taken < 5950


@pytest.mark.slow
def test_a_shortcut_gives_what_the_general_way_gives() -> None:
    taken = [check(row) for row in rows(1500)]
    # Odd as they are, a good part of the rows goes either way.
    assert 150 < sum(read for read, _ in taken) < 1350
    assert 150 < sum(written for _, written in taken) < 1350


def test_what_stands_between_marks_is_never_taken_for_a_call_of_another_turn() -> None:
    """A stretch with half a call or with several, whose neighbours make up for it: together they would be calls."""
    one, other = '{"name": "a", "arguments": {}}', '{"name": "b", "arguments": {"x": 1, "y": "}, {"}}'
    cut = ('{"name": "a",', ' "arguments": {}}'), ('{"name": "a"', ' "arguments": {}}'), ('{"name": "a"', other[13:])
    joints = ("\n,\n", ",", ", ", "\n,")
    edges = tuple(itertools.product(("\n", ""), repeat=2))
    taken = 0
    for halves, joint in itertools.product((*cut, (one, other)), joints):
        parts = (*halves, f"{one}{joint}{other}") if halves in cut else halves
        for around in itertools.product(edges, repeat=len(parts)):
            turns = [{"from": "human", "value": "q"}]
            for part, (before, behind) in zip(parts, around, strict=True):
                turns.append({"from": "gpt", "value": f"<tool_call>{before}{part}{behind}</tool_call>"})
                turns.append({"from": "human", "value": "{}"})
            row = {"conversations": [*turns, {"from": "gpt", "value": "done"}]}
            if (chat := chat_of_sharegpt(row)) is not None:
                taken += 1
                assert chat == to_row(sharegpt.read(row, ORIGIN))
                check_chat(chat)
    assert taken > 10


@pytest.mark.slow
def test_odd_conversations_are_left_to_the_general_way_or_come_out_the_same() -> None:
    for number in range(1500):
        case = make_case(Random(number))
        if case.form == "sharegpt":
            check(case.row)
        else:
            check_chat(case.row)


@pytest.mark.parametrize("name", ["telecom_small_24.json", "telecom_syc_10pct_500_processed.json"])
def test_the_example_data_are_common(name: str) -> None:
    for row in json.loads((EXAMPLES / name).read_text()):
        assert chat_of_sharegpt(row) is not None


VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=6), st.lists(st.integers())
)
MARKS = st.text(st.sampled_from(':,"\\{}\n\x00\x1f\x7fé \u2028'), max_size=4)


@given(st.text(min_size=1, max_size=4) | MARKS, st.dictionaries(MARKS, MARKS | VALUE, max_size=4))
def test_a_call_is_written_as_templates_write_json(name: str, arguments: dict[str, Any]) -> None:
    assert call_text(name, arguments) == dumps({"name": name, "arguments": arguments})


WORDS = st.text(st.sampled_from("ab\n"), max_size=3) | st.none()
MESSAGE = st.builds(user, WORDS) | st.builds(said, WORDS) | st.builds(lambda text: said(text, ("a", {"b": "a"})), WORDS)


@settings(max_examples=300)
@given(st.lists(MESSAGE, min_size=1, max_size=3), MESSAGE)
@pytest.mark.slow
def test_joined_turns_are_accounted_for_as_any_change_is(old: list[dict[str, Any]], new: dict[str, Any]) -> None:
    exchanged = _exchanged_words(old, [new])
    assert exchanged is None or exchanged == _exchanged([_piece(one) for one in old], [_piece(new)])
