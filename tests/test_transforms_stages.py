"""The five stages that make training data of raw agent logs, each against what such stages get wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent_sft.data.transforms.remove_think import strip_reasoning
from agent_sft.data.transforms.system_prompt import render_tools
from agent_sft.engines.environments import call_inside
from agent_sft.engines.llamafactory.launch import SHARED
from agent_sft.errors import UserError
from tests.rows import changed, chat, hermes_call, outcomes, reason, result, said, user

ORDER = {
    "name": "get_order",
    "description": "Zeigt eine Bestellung, é",
    "parameters": {
        "type": "object",
        "properties": {
            "order_id": {"type": "string", "pattern": r"^#W\d{3}$"},
            "count": {"type": "integer"},
            "gift": {"type": "boolean"},
            "cabin": {"enum": ["economy", "business"]},
            "address": {
                "type": "object",
                "properties": {"zip": {"type": "string"}, "lines": {"type": "array", "items": {"type": "string"}}},
                "required": ["zip"],
            },
        },
        "required": ["order_id"],
    },
}


def calling(arguments: Any, name: str = "get_order") -> dict[str, Any]:
    return chat(user("hi"), said(None, (name, arguments)), result("{}", "c1"), said("Done."), tools=[ORDER])


def arguments_of(row: dict[str, Any]) -> Any:
    return row["messages"][1]["tool_calls"][0]["function"]["arguments"]


# fix_arguments


@pytest.mark.parametrize(
    ("given", "fixed"),
    [
        ('{"user_id":"u1"}', {"user_id": "u1"}),
        (json.dumps(json.dumps({"a": "é"})), {"a": "é"}),
        ("", {}),
        ({"a": "{}"}, {"a": "{}"}),
    ],
)
def test_arguments_given_as_text_become_the_object(given: Any, fixed: Any) -> None:
    assert arguments_of(changed("fix_arguments", calling(given))) == fixed


@pytest.mark.parametrize("given", ["{broken", "[1]", "null", '{"a": NaN}', '{"a": 1, "a": 2}', 3, None])
def test_arguments_that_are_no_object_are_a_reject_and_never_an_empty_call(given: Any) -> None:
    assert "turn 2: the arguments of 'get_order' are no object" in reason("fix_arguments", calling(given))


def test_a_conversation_that_speaks_of_tool_tags_is_not_thrown_away() -> None:
    row = chat(user("what does <tool_call> mean, and <tool_?"), said(None, ("f", '{"a": 1}')), said("<tool_response>"))
    fixed = changed("fix_arguments", row)
    assert arguments_of(fixed) == {"a": 1}
    assert [message["content"] for message in fixed["messages"]] == [
        row["messages"][0]["content"],
        None,
        "<tool_response>",
    ]


def test_arguments_inside_a_text_are_fixed_where_they_stand() -> None:
    given = hermes_call("f", '{"x": "é"}')
    row = chat(user("hi"), said(f"One moment.\n{given}\n"))
    text = changed("fix_arguments", row)["messages"][1]["content"]
    assert text == f"One moment.\n{hermes_call('f', {'x': 'é'})}\n"


def test_each_unpacking_is_listed_and_the_given_row_left_alone() -> None:
    row = calling('{"order_id": "#W123"}')
    (outcome,) = outcomes("fix_arguments", row)
    assert outcome.notes == ("turn 2: unpacked the arguments of 'get_order'",)
    assert isinstance(arguments_of(row), str)


# to_hermes


def test_calls_and_results_become_the_text_that_is_served() -> None:
    row = chat(user("é?"), said("Let me see.", ("f", {"name": "é"})), result('{"a": 1}', "c1"), said("Ja."))
    texts = [(one["role"], one["content"]) for one in changed("to_hermes", row)["messages"]]
    assert texts == [
        ("user", "é?"),
        ("assistant", 'Let me see.\n<tool_call>\n{"name": "f", "arguments": {"name": "é"}}\n</tool_call>'),
        ("user", '<tool_response>\n{"a": 1}\n</tool_response>'),
        ("assistant", "Ja."),
    ]


def test_several_calls_are_several_blocks_and_their_results_come_in_the_order_of_the_calls() -> None:
    row = chat(user("hi"), said(None, ("f", {}), ("g", {})), result("of g", "c2"), result("of f", "c1"), said("Ja."))
    messages = changed("to_hermes", row)["messages"]
    assert messages[1]["content"] == f"{hermes_call('f', {})}\n{hermes_call('g', {})}"
    wrapped = "<tool_response>\nof f\n</tool_response>\n<tool_response>\nof g\n</tool_response>"
    assert messages[2] == {"role": "user", "content": wrapped}


def test_one_bad_call_is_a_reject_with_its_reason() -> None:
    assert "the arguments of 'get_order' are no object: {bad" in reason("to_hermes", calling("{bad"))
    row = chat(user("hi"), said(None, ("f", {}), ("g", {})), result("x", "c1"), result("y", "c9"), said("Ja."))
    assert "turn 4: a result for the call 'c9', which was not made" in reason("to_hermes", row)


# check_tools


@pytest.mark.parametrize(
    ("given", "repaired"),
    [
        ({"order_id": "W123"}, {"order_id": "#W123"}),
        ({"order_id": "#W123", "count": "3"}, {"order_id": "#W123", "count": 3}),
        ({"order_id": "#W123", "gift": "True"}, {"order_id": "#W123", "gift": True}),
        ({"order_id": "#W123", "cabin": "Economy"}, {"order_id": "#W123", "cabin": "economy"}),
        ({"order_id": "#W123", "address": '{"zip": "1"}'}, {"order_id": "#W123", "address": {"zip": "1"}}),
        ({"order_id": "#W123", "address": {"zip": 12345}}, {"order_id": "#W123", "address": {"zip": "12345"}}),
    ],
)
def test_certain_repairs_are_made_and_listed(given: Any, repaired: Any) -> None:
    (outcome,) = outcomes("check_tools", calling(given))
    assert (outcome.fate, arguments_of(outcome.row)) == ("kept", repaired)
    assert len(outcome.notes) == 1
    assert outcome.notes[0].startswith("turn 2: 'get_order' '")
    assert arguments_of(outcomes("check_tools", outcome.row)[0].row) == repaired, "twice is once"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "lacks 'order_id'"),
        ({"order_id": "#X123"}, "'order_id' is \"#X123\", which does not match"),
        ({"order_id": "#W123", "cabin": "first"}, 'none of ["economy"'),
        ({"order_id": "#W123", "orderid": 1}, "has 'orderid', which the tool does not take"),
        ({"order_id": "#W123", "address": {}}, "'address' lacks 'zip'"),
        ({"order_id": "#W123", "address": {"zip": "1", "city": "x"}}, "'address' has 'city'"),
        (
            {"order_id": "#W123", "address": {"zip": "1", "lines": ["a", {}]}},
            "'address.lines[1]' is {}, not of the type string",
        ),
        ({"order_id": "#W123", "count": "three"}, "'count' is \"three\", not of the type integer"),
        ("{}", "are no object"),
    ],
)
def test_what_a_schema_forbids_is_a_reject_that_names_it(given: Any, why: str) -> None:
    said_why = reason("check_tools", calling(given))
    assert said_why.startswith("turn 2: ")
    assert why in said_why


def test_an_unknown_tool_is_a_reject_with_the_nearest_name() -> None:
    assert (
        reason("check_tools", calling({}, "get_ordr"))
        == "turn 2: there is no tool 'get_ordr'; did you mean 'get_order'?"
    )


def test_one_faulty_conversation_does_not_touch_the_others() -> None:
    good, bad = calling({"order_id": "#W123"}), calling({})
    assert [outcome.fate for outcome in outcomes("check_tools", good, bad, good)] == ["kept", "rejected", "kept"]


def test_calls_in_text_are_checked_too_and_a_tag_in_an_argument_is_an_argument() -> None:
    inside = {"order_id": "W123", "address": {"zip": "</tool_call>"}}
    row = chat(user("hi"), said(f"See:\n{hermes_call('get_order', inside)}"), said("x"), tools=[ORDER])
    text = changed("check_tools", row)["messages"][1]["content"]
    assert text == f"See:\n{hermes_call('get_order', {**inside, 'order_id': '#W123'})}"


def test_repairs_that_no_schema_tells_of_are_given_as_patterns() -> None:
    tool = {"name": "f", "parameters": {"type": "object", "properties": {"items": {"type": "array"}}}}
    row = chat(user("hi"), said(None, ("f", {"items": [{"order_id": "W1"}, {"order_id": "#W2"}]})), tools=[tool])
    rule = {"argument": "order_id", "pattern": r"W\d", "replace": r"#\g<0>"}
    (outcome,) = outcomes("check_tools", row, repairs=[rule])
    assert arguments_of(outcome.row) == {"items": [{"order_id": "#W1"}, {"order_id": "#W2"}]}
    assert outcome.notes == ("turn 2: 'f' 'items[0].order_id': \"W1\" -> \"#W1\"",)
    with pytest.raises(UserError, match=r"repairs\.0.*is no regular expression"):
        outcomes("check_tools", row, repairs=[{**rule, "pattern": "("}])


def test_repairs_can_be_turned_off() -> None:
    assert "needs a repair" in reason("check_tools", calling({"order_id": "W123"}), repair=False)


def test_rows_without_tools_pass_unless_tools_are_required(tmp_path: Path) -> None:
    row = {**calling({}), "tools": []}
    assert changed("check_tools", row) is row
    assert "there is no tool 'get_order'" in reason("check_tools", row, require_tools=True)
    (tmp_path / "tools.json").write_text(json.dumps([{"type": "function", "function": ORDER}]))
    assert "lacks 'order_id'" in reason("check_tools", row, tools=tmp_path / "tools.json")


def test_nothing_is_fetched_for_a_schema() -> None:
    tool = {"name": "f", "parameters": {"$ref": "http://127.0.0.1:9/schema.json"}}
    assert "which is not in it" in reason("check_tools", chat(user("a"), said(None, ("f", {})), tools=[tool]))


# remove_think


@pytest.mark.parametrize(
    "text",
    [
        "<think>Why</think>Ja.",
        "<think>\nWhy\n</think>\n\nJa.",
        "<THINK>Why</Think >Ja.",
        "<thinking>Why</thinking>\nJa.",
        "Why\n</think>\n\nJa.",
        "[THINK]Why[/THINK]Ja.",
        "◁think▷Why◁/think▷Ja.",
        "<think>Why <think>so</think> then</think>Ja.",
        "<think>one</think><think>two</think>Ja.",
        "<think></think>Ja.",
    ],
)
def test_reasoning_goes_in_every_spelling(text: str) -> None:
    assert strip_reasoning(text) == "Ja."


def test_words_around_reasoning_and_calls_after_it_stay() -> None:
    assert strip_reasoning("Well, <think>x</think>yes.") == "Well, yes."
    call = hermes_call("f", {"note": "<think>data</think>"})
    assert strip_reasoning(f"<think>Why</think>\n{call}") == call, "no sentence is made up before a bare call"
    assert strip_reasoning(f"<think>I could <tool_call> f</think>\n{call}") == call
    assert strip_reasoning(f"<think>first {hermes_call('g', {})}</think>\n{call}") == call


def test_text_without_reasoning_stays_to_the_byte() -> None:
    text = "\n a [thought] <thoughtful> \n"
    assert strip_reasoning(text) is text


def test_reasoning_without_an_end_is_a_reject() -> None:
    assert "turn 2: reasoning that never ends" in reason("remove_think", chat(user("a"), said("<think>so")))


def test_the_field_for_reasoning_is_emptied_too() -> None:
    row = chat(user("a"), said("Ja.", reasoning_content="Why"))
    assert changed("remove_think", row)["messages"][1] == said("Ja.")


def test_turns_of_nothing_else_never_break_the_alternation() -> None:
    row = chat(user("a"), said("<think>x</think>"), said("Ja."), user("b"), said("<think>y</think>"))
    (outcome,) = outcomes("remove_think", row)
    assert [message["role"] for message in outcome.row["messages"]] == ["user", "assistant", "user"]
    assert outcome.notes == ("turn 2 was nothing but reasoning", "turn 5 was nothing but reasoning")
    assert "turn 2: nothing but reasoning" in reason(
        "remove_think", chat(user("a"), said("<think>x</think>"), user("b"), said("c"))
    )


def test_history_keeps_the_reasoning_after_the_last_user_turn() -> None:
    row = chat(user("a"), said("<think>x</think>b"), user("c"), said("<think>y</think>d"))
    texts = [message["content"] for message in changed("remove_think", row, turns="history")["messages"]]
    assert texts == ["a", "b", "c", "<think>y</think>d"]


# system_prompt


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "policy.md").write_text("Be kind, é.\n", encoding="utf-8")
    (tmp_path / "tools.json").write_text(json.dumps([ORDER]), encoding="utf-8")
    return {"policy": tmp_path / "policy.md", "tools": tmp_path / "tools.json"}


@pytest.mark.parametrize("before", [[], ["old"], ["old", "older"]])
def test_the_policy_stands_before_every_row_also_one_that_had_none(files: dict[str, Path], before: list[str]) -> None:
    row = chat(*({"role": "system", "content": text} for text in before), user("a"), said("b"))
    new = changed("system_prompt", row, **files)
    assert new["messages"] == [{"role": "system", "content": "Be kind, é."}, user("a"), said("b")]
    assert new["tools"] == [ORDER]
    assert changed("system_prompt", new, **files) is new


def test_tools_never_stand_in_the_text_and_the_column(files: dict[str, Path]) -> None:
    doubled = f"Be kind.\n\n{render_tools([ORDER])}"
    row = chat({"role": "system", "content": doubled}, user("a"), said("b"), tools=[ORDER])
    (outcome,) = outcomes("system_prompt", row)
    assert outcome.row["messages"][0]["content"] == "Be kind."
    assert outcome.notes == ("took tools out of the system text, which stood there a second time",)
    in_text = changed("system_prompt", row, show_tools="text")
    assert (in_text["messages"][0]["content"], in_text["tools"]) == (doubled, [])


@pytest.mark.slow
def test_tools_in_the_text_are_what_llamafactory_renders(train_python: Path, tmp_path: Path) -> None:
    program = tmp_path / "render.py"
    program.write_text(
        "import json, sys\n"
        "from llamafactory.data.formatter import ToolFormatter\n"
        "shown = ToolFormatter(tool_format='qwen').apply(content=json.dumps(json.load(sys.stdin)))\n"
        "print(json.dumps(shown), file=sys.__stdout__)\n"
    )
    (shown,) = call_inside(train_python, program, payload=[ORDER], started=SHARED.forked)
    assert shown == f"\n\n{render_tools([ORDER])}"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("policy", "\n", "empty"),
        ("tools", "{}", "list"),
        ("tools", "[{}]", "tool 1 has no name"),
        ("tools", "[", "line 1"),
    ],
)
def test_files_that_are_no_policy_and_no_tools_are_refused(
    files: dict[str, Path], name: str, content: str, what: str
) -> None:
    files[name].write_text(content)
    with pytest.raises(UserError, match=what) as error:
        outcomes("system_prompt", chat(user("a"), said("b")), **files)
    assert str(files[name]) in str(error.value)
