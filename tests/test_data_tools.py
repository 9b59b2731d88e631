"""The tools column: a JSON text of a list of descriptions, or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent_sft.data.dialects import dialect_of
from agent_sft.data.tools import tools_text
from agent_sft.data.turns import Unusable

BARE = {"name": "a", "description": "é", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}}}
WRAPPED = {"type": "function", "function": BARE}
QWEN, PLAIN = dialect_of("qwen"), dialect_of("default")


@pytest.mark.parametrize("nothing", [None, "", " \n", "[]", [], "null"])
def test_no_tools_become_an_empty_text(nothing: Any) -> None:
    assert tools_text(nothing, QWEN) == ""


@pytest.mark.parametrize("tools", [[BARE], [WRAPPED, BARE], [{"name": "no_parameters"}]])
def test_tools_are_written_as_a_text_and_a_text_is_left_alone(tools: Any) -> None:
    written = tools_text(tools, QWEN)
    assert json.loads(written) == tools
    assert "\\u" not in written
    spaced = json.dumps(tools, indent=3)
    assert tools_text(spaced, QWEN) == spaced


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ("{broken", "not JSON"),
        ('"text"', "'tools' is a text, not a list"),
        ({"name": "a"}, "'tools' is an object, not a list"),
        ("true", "'tools' is a boolean"),
        (["a", "b"], "tool 1 is a text, not an object"),
        ([BARE, {"description": "x"}], "tool 2 has no name"),
        ([{"type": "function", "function": None}], "tool 1 has no name"),
        ('[{"name": "\\ud800"}]', "half a character"),
    ],
)
def test_what_is_no_list_of_tools_is_refused(tools: Any, reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        tools_text(tools, QWEN)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (None, "no parameters.properties"),
        ({}, "no parameters.properties"),
        ({"properties": {"x": "text"}}, "'x' is a text"),
        ({"properties": {"x": {"enum": [1, 2]}}}, "an enum that is no list of texts"),
        ({"properties": {"x": {"items": "text"}}}, "items that are no object"),
        ({"properties": {}, "required": None}, "'required' is no list"),
    ],
)
def test_templates_that_take_parameters_apart_need_them_whole(parameters: Any, reason: str) -> None:
    tools = [{"name": "a", "parameters": parameters}]
    assert tools_text(tools, QWEN)
    with pytest.raises(Unusable, match=reason):
        tools_text(tools, PLAIN)
