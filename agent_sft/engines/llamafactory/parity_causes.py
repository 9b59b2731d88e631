"""Why the tokens of a training and of a server differ: the known causes, told apart by what stands around."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

CAUSES = {
    "refused": "the chat template refuses these messages",
    "token boundary": "the same text is cut into other tokens where two turns meet",
    "default system prompt": "one side adds system text that the data does not hold",
    "system text": "the system text stands in another place or in another form",
    "tools rendered twice": "the system text holds a list of tools, and the tools are declared or sent as well",
    "tools not rendered": "the server's chat template does not render tools",
    "tool list": "the list of tools is worded in another way or stands in another place",
    "tool JSON": "the JSON of the tools has other spacing or another order of keys",
    "think in history": "reasoning of an earlier turn stands on one side alone",
    "think block": "a think block opens the answer on one side alone: see enable_thinking",
    "think spacing": "the line breaks around reasoning differ",
    "call ids": "the server writes the ids of calls, which are not trained on",
    "call JSON": "the JSON of a call has other spacing, another order of keys or other escapes",
    "call form": "calls are written in another form",
    "result wrapping": "the result of a tool stands in another form",
    "missing newline": "the sides differ in white space alone",
    "unknown": "none of the known causes",
}
"""Every cause in words. Of several that could apply the more special one is named."""

_MARK = re.compile(r"<\|[^|<>]*\|>|<tool_call>|\[/?[A-Z_]{3,}\]")
_CALL_ID = re.compile(r'"id": ?"call\d{5}"')
_BEGUN_TAG = re.compile(r"<[a-z_/]*\Z")
_ENOUGH = 40
"""Characters that agree by chance hardly ever."""


def cause_of(difference: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """Return the cause of a difference, a key of `CAUSES`.

    Args:
        difference: one entry of what `inside/parity.py` found.
        whole: all that it found.
    """
    if "error" in difference:
        return "refused"
    if difference["same_text"]:
        return "token boundary"
    # Tags that begin alike, <think> and <tool_call>, are compared whole.
    begun = _BEGUN_TAG.search(difference["before"]["text"])
    trained, served = (f"{begun[0] if begun else ''}{difference[side]['text']}" for side in ("trained", "served"))
    if cause := _think_cause(difference, trained, served):
        return cause
    if difference["inside_turn"] == 1:
        return _opening_cause(difference, whole, trained, served)
    answer = difference["inside"] in ("gpt", "function_call")
    if answer and (cause := _call_cause(difference["before"]["text"], trained, served)):
        return cause
    if _same_but_for_space(trained, served):
        return "missing newline"
    if answer:
        return "call form" if difference["inside"] == "function_call" or "<tool_call>" in trained else "unknown"
    return "result wrapping" if difference["result"] else "unknown"


def _think_cause(difference: Mapping[str, Any], trained: str, served: str) -> str | None:
    opens = [text.lstrip().startswith("<think>") for text in (trained, served)]
    before = difference["before"]["text"]
    within = before.rfind("<think>") > before.rfind("</think>")
    if opens[0] != opens[1]:
        generating = difference["part"] == "answer" or not (trained and served)
        return (
            "think block" if generating and difference["inside_turn"] >= difference["turn"] - 1 else "think in history"
        )
    if (within or before.rstrip().endswith("</think>")) and _same_but_for_space(trained, served):
        return "think spacing"
    return "think in history" if within else None


def _opening_cause(difference: Mapping[str, Any], whole: Mapping[str, Any], trained: str, served: str) -> str:
    """Return the cause of a difference in what stands before or in the first turn."""
    if difference["trained"]["tool_lists"] > max(1, difference["served"]["tool_lists"]):
        return "tools rendered twice"
    if difference["tools"]:
        if not whole["renders_tools"]:
            return "tools not rendered"
        lines = [_line(difference["before"]["text"], text) for text in (trained, served)]
        if None not in lines and lines[0] == lines[1]:
            return "tool JSON"
    if not difference["system"] and _adds(whole["default_system"], trained, served):
        return "default system prompt"
    if difference["tools"]:
        return "tool list"
    if _same_but_for_space(trained, served):
        return "missing newline"
    # Text that was moved is met again on both sides, text that was added on one.
    moved = _continues(served, trained) or not _continues(trained, served)
    return "system text" if difference["system"] and moved else "default system prompt"


def _call_cause(before: str, trained: str, served: str) -> str | None:
    """Return the cause of a difference inside the JSON of calls; None if it is not there."""
    if _CALL_ID.search(served[:200]) and not _CALL_ID.search(trained):
        return "call ids"
    start = max((match.end() for match in _MARK.finditer(before)), default=0)
    values = [_json_in(before[start:] + text) for text in (trained, served)]
    if None in values or before[start:].lstrip()[:1] not in ("{", "["):
        return None
    return "call JSON" if values[0] == values[1] else None


def _json_in(text: str) -> Any:
    """Return the first JSON value that is an object or an array, None where there is none."""
    start = re.search(r"[\[{]", text)
    if start is None:
        return None
    try:
        return json.JSONDecoder().raw_decode(text, start.start())[0]
    except ValueError:
        return None


def _line(before: str, after: str) -> Any:
    """Return the JSON value of the line in which a difference lies."""
    try:
        return json.loads(before.rpartition("\n")[2] + after.partition("\n")[0])
    except ValueError:
        return None


def _adds(text: str, trained: str, served: str) -> bool:
    """Tell whether a default system text stands ahead on one side alone."""
    return bool(text) and (text in trained[: 2 * len(text)]) != (text in served[: 2 * len(text)])


def _continues(shorter: str, longer: str) -> bool:
    """Tell whether one side goes on later as the other one does at once."""
    return len(shorter) >= _ENOUGH and shorter[:_ENOUGH] in longer


def _same_but_for_space(trained: str, served: str) -> bool:
    one, other = ("".join(text.split())[:_ENOUGH] for text in (trained, served))
    return one == other
