"""The `tools` column: a JSON text of a list of tool descriptions, or an empty text."""

from __future__ import annotations

import json
from typing import Any

from agent_sft.data.calls import is_encodable
from agent_sft.data.dialects import Dialect
from agent_sft.data.reading import describe
from agent_sft.data.turns import Unusable


def tools_text(value: Any, dialect: Dialect) -> str:
    """Return the `tools` of a row as LLaMA-Factory parses them; an empty text where there are none.

    Raises:
        Unusable: it is no list of tool descriptions, or one that the template cannot show.
    """
    tools, text = _parsed(value)
    if tools is None:
        return ""
    if not isinstance(tools, list):
        raise Unusable(f"'tools' is {describe(tools)}, not a list of tool descriptions")
    for number, tool in enumerate(tools, start=1):
        _check_tool(tool, number, dialect)
    if not is_encodable(tools):
        raise Unusable("'tools' holds half a character (a lone \\ud800 to \\udfff)")
    return text if tools else ""


def _parsed(value: Any) -> tuple[Any, str]:
    """Return the parsed value, None where there is nothing, and the text to write."""
    if value is None:
        return None, ""
    if not isinstance(value, str):
        return value, json.dumps(value, ensure_ascii=False)
    if not value.strip():
        return None, ""
    try:
        return json.loads(value), value
    except (ValueError, RecursionError) as error:
        raise Unusable("'tools' is a text that is not JSON") from error


def _check_tool(tool: Any, number: int, dialect: Dialect) -> None:
    if not isinstance(tool, dict):
        raise Unusable(f"tool {number} is {describe(tool)}, not an object")
    function = tool.get("function", tool) if tool.get("type") == "function" else tool
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Unusable(f"tool {number} has no name")
    if dialect.any_tool_schema:
        return
    name, parameters = function["name"], function.get("parameters")
    parameters = parameters if isinstance(parameters, dict) else {}
    properties = parameters.get("properties")
    if not isinstance(properties, dict):
        raise Unusable(f"tool {number} ('{name}') has no parameters.properties, which '{dialect.template}' shows")
    if tool is function and tool.get("type") == "function":
        raise Unusable(f"tool {number} ('{name}') says type 'function' but holds no 'function'")
    if not isinstance(parameters.get("required", []), list):
        raise Unusable(f"tool {number} ('{name}'): 'required' is no list")
    for key, schema in properties.items():
        if not isinstance(schema, dict):
            raise Unusable(f"tool {number} ('{name}'): the parameter '{key}' is {describe(schema)}, not an object")
        choices = schema.get("enum")
        if choices and not (isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)):
            raise Unusable(f"tool {number} ('{name}'): '{key}' has an enum that is no list of texts")
        items = schema.get("items")
        if items and not isinstance(items, dict):
            raise Unusable(f"tool {number} ('{name}'): '{key}' has items that are no object")
