"""Differences between what is trained on and what a server renders are found, and their causes named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_sft.engines.llamafactory.facts import INSIDE
from agent_sft.engines.llamafactory.parity import Parity, sample_rows
from agent_sft.engines.llamafactory.parity_causes import CAUSES
from tests.support import run_inside

TEMPLATES = Path(__file__).parent / "chat_templates"
TOOL = {"name": "get_plan", "description": "Reads a plan.", "parameters": {"type": "object", "properties": {}}}
LISTED = json.dumps([{"type": "function", "function": TOOL}])
CALL = '{"name": "get_plan", "arguments": {"line": "L1", "größe": 2}}'
BLOCK = f"<tool_call>\n{CALL}\n</tool_call>"
QWEN_BLOCK = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function"
    f" signatures within <tools></tools> XML tags:\n<tools>\n{json.dumps({'type': 'function', 'function': TOOL})}\n"
    "</tools>\n\nFor each function call, return a json object with function name and arguments within"
    " <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)

CHATML = (["<|im_start|>", "<|im_end|>"], None, "<|im_end|>")
LLAMA = (["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>"], "<|begin_of_text|>", "<|eot_id|>")
MISTRAL = (
    [f"[{slash}{name}]" for name in ("INST", "AVAILABLE_TOOLS", "TOOL_RESULTS") for slash in ("", "/")]
    + ["[TOOL_CALLS]"],
    "<s>",
    "</s>",
)

GEMMA = (["<start_of_turn>", "<end_of_turn>"], "<bos>", "<eos>")


def row(*turns: str, system: str = "You help with lines.", tools: str = "") -> dict[str, Any]:
    """A prepared row; each turn is `role: text`."""
    pairs = (turn.split(": ", 1) for turn in turns)
    return {"conversations": [{"from": role, "value": text} for role, text in pairs], "system": system, "tools": tools}


HELLO = ("human: Hi", "gpt: Hello!")
CALLING = ("human: My line?", f"function_call: {CALL}", "observation: 3 GB", "gpt: 3 GB are left.")
THOUGHT = "<think>\nLet me see.\n</think>\n\n"

# Name of the case: (family, chat template, settings beside the template, row, cause or None where equal)
CASES: dict[str, tuple[tuple[Any, ...], str, dict[str, Any], dict[str, Any], str | None]] = {
    "qwen, words": (CHATML, "qwen", {}, row(*HELLO, *HELLO), None),
    "qwen, no system text": (CHATML, "qwen", {}, row(*HELLO, system=""), None),
    "qwen, calls and tools": (CHATML, "qwen", {}, row(*CALLING, *HELLO, tools=LISTED), None),
    "qwen, words before a call": (
        CHATML,
        "qwen",
        {},
        row("human: My line?", f"function_call: Let me look.\n{BLOCK}", *CALLING[2:]),
        None,
    ),
    "qwen, parallel calls and results": (
        CHATML,
        "qwen",
        {},
        row(
            *("human: Both?", f"function_call: [{CALL}, {CALL}]"),
            *("observation: 3 GB\n</tool_response>\n<tool_response>\n4 GB", "gpt: 7 GB."),
        ),
        None,
    ),
    "qwen, Hermes text": (CHATML, "qwen", {}, row("human: My line?", f"gpt: {BLOCK}", *CALLING[2:]), None),
    "qwen, tools rendered into the system text": (
        CHATML,
        "qwen",
        {},
        row(*CALLING, system=f"You help.{QWEN_BLOCK}"),
        None,
    ),
    "qwen, those and declared": (
        CHATML,
        "qwen",
        {},
        row(*CALLING, system=f"You help.{QWEN_BLOCK}", tools=LISTED),
        "tools rendered twice",
    ),
    "qwen, default system text": (
        CHATML,
        "qwen",
        {"default_system": "You are somebody else."},
        row(*HELLO, system=""),
        "default system prompt",
    ),
    "qwen, key order of a tool": (
        CHATML,
        "qwen",
        {},
        row(*CALLING, tools=json.dumps([dict(reversed(TOOL.items()))])),
        "tool JSON",
    ),
    "qwen, compact call": (
        CHATML,
        "qwen",
        {},
        row("human: My line?", 'gpt: <tool_call>\n{"name":"get_plan","arguments":{}}\n</tool_call>', *CALLING[2:]),
        "call JSON",
    ),
    "qwen, result said by the user": (
        CHATML,
        "qwen",
        {},
        row("human: My line?", f"gpt: {BLOCK}", "human: 3 GB", "gpt: 3 GB are left."),
        "result wrapping",
    ),
    "qwen, a call that the user takes back": (
        CHATML,
        "qwen",
        {},
        row(*CALLING, "human: And hers?", f"gpt: {BLOCK}", "human: Never mind.", "gpt: All right."),
        None,
    ),
    "qwen, wrapped result said by the user": (
        CHATML,
        "qwen",
        {},
        row(
            *("human: My line?", f"gpt: {BLOCK}", "human: <tool_response>\n3 GB\n</tool_response>"),
            "gpt: 3 GB are left.",
        ),
        None,
    ),
    "qwen, tool_format loses a line break": (
        CHATML,
        "qwen",
        {"tool_format": "qwen"},
        row(*CALLING),
        "missing newline",
    ),
    "qwen, answer that begins with a line break": (
        CHATML,
        "qwen",
        {},
        row("human: Hi", "gpt: \nHello!", *HELLO),
        "token boundary",
    ),
    "qwen3 on, one thought": (
        CHATML,
        "qwen3",
        {"enable_thinking": True},
        row("human: Hi", f"gpt: {THOUGHT}Hello!"),
        None,
    ),
    "qwen3 on, one turn": (CHATML, "qwen3", {"enable_thinking": True}, row(*HELLO), None),
    "qwen3 on, thoughts in two turns": (
        CHATML,
        "qwen3",
        {"enable_thinking": True},
        row("human: Hi", f"gpt: {THOUGHT}Hello!", "human: Bye", f"gpt: {THOUGHT}Bye!"),
        "think in history",
    ),
    "qwen3 on, no thoughts in two turns": (
        CHATML,
        "qwen3",
        {"enable_thinking": True},
        row(*HELLO, *HELLO),
        "think in history",
    ),
    "qwen3 on, thought before a call": (
        CHATML,
        "qwen3",
        {"enable_thinking": True},
        row(
            "human: My line?",
            f"function_call: {THOUGHT}{CALL}",
            "observation: 3 GB",
            f"gpt: {THOUGHT}3 GB.",
            tools=LISTED,
        ),
        None,
    ),
    "qwen3 on, thought without line breaks": (
        CHATML,
        "qwen3",
        {"enable_thinking": True},
        row("human: Hi", "gpt: <think>Hm.</think>Hello!"),
        "think spacing",
    ),
    "qwen3 on, the last turn alone": (
        CHATML,
        "qwen3",
        {"enable_thinking": True, "mask_history": True},
        row("human: Hi", f"gpt: {THOUGHT}Hello!", "human: Bye", f"gpt: {THOUGHT}Bye!"),
        None,
    ),
    "qwen3 off, one turn": (CHATML, "qwen3", {"enable_thinking": False}, row(*HELLO), None),
    "qwen3 off, two turns": (CHATML, "qwen3", {"enable_thinking": False}, row(*HELLO, *HELLO), "think in history"),
    "qwen3 off, the last turn alone": (
        CHATML,
        "qwen3",
        {"enable_thinking": False, "mask_history": True},
        row(*HELLO, *HELLO),
        None,
    ),
    "qwen3 off, calls": (CHATML, "qwen3", {"enable_thinking": False}, row(*CALLING, tools=LISTED), "think in history"),
    "qwen3 on, calls without thoughts": (
        CHATML,
        "qwen3",
        {"enable_thinking": True},
        row(*CALLING, tools=LISTED),
        "think in history",
    ),
    "qwen3 none, one thought": (
        CHATML,
        "qwen3",
        {"enable_thinking": None},
        row("human: Hi", f"gpt: {THOUGHT}Hello!"),
        None,
    ),
    "qwen3 none, thoughts in two turns": (
        CHATML,
        "qwen3",
        {"enable_thinking": None},
        row("human: Hi", f"gpt: {THOUGHT}Hello!", "human: Bye", f"gpt: {THOUGHT}Bye!"),
        "think in history",
    ),
    "qwen3 none, the last turn alone": (
        CHATML,
        "qwen3",
        {"enable_thinking": None, "mask_history": True},
        row("human: Hi", f"gpt: {THOUGHT}Hello!", "human: Bye", f"gpt: {THOUGHT}Bye!"),
        None,
    ),
    "qwen3 none, one turn": (CHATML, "qwen3", {"enable_thinking": None}, row(*HELLO), "think block"),
    "qwen3_nothink, calls": (
        CHATML,
        "qwen3_nothink",
        {"enable_thinking": None},
        row(*CALLING, tools=LISTED),
        "think block",
    ),
    "llama3, words": (LLAMA, "llama3", {}, row(*HELLO, *HELLO), None),
    "llama3, calls without a list of tools": (LLAMA, "llama3", {}, row(*CALLING), "call form"),
    "llama3, tools": (LLAMA, "llama3", {}, row(*CALLING, tools=LISTED), "tools not rendered"),
    "llama3.1, words": (LLAMA, "llama3_1", {}, row(*HELLO), "default system prompt"),
    "llama3.1, no system text": (LLAMA, "llama3_1", {}, row(*HELLO, system=""), "default system prompt"),
    "llama3.1, tools": (LLAMA, "llama3_1", {}, row(*CALLING, tools=LISTED), "tool list"),
    "mistral, one turn": (MISTRAL, "mistral", {}, row(*HELLO), None),
    "mistral, two turns": (MISTRAL, "mistral", {}, row(*HELLO, "human: And you?", "gpt: Fine."), "system text"),
    "mistral, tools": (MISTRAL, "mistral", {}, row(*CALLING, tools=LISTED), "tool list"),
    "mistral, two turns without a system text": (MISTRAL, "mistral", {}, row(*HELLO, *HELLO, system=""), None),
    "mistral, calls": (MISTRAL, "mistral", {}, row(*CALLING, system=""), "call ids"),
    "gemma, words": (GEMMA, "gemma", {}, row(*HELLO, *HELLO, system=""), None),
    "gemma, system text": (GEMMA, "gemma", {}, row(*HELLO), "refused"),
}


@pytest.fixture(scope="module")
def found(train_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parity]:
    """What is found in each case; the engine is started once for all."""
    cases = []
    for (special, bos, eos), chat_template, settings, given, _ in CASES.values():
        template = chat_template.removesuffix("_1").removesuffix("_nothink")
        name = {"llama3_1": "llama3_1", "qwen3_nothink": "qwen3"}.get(chat_template, template)
        cases.append(
            {
                "settings": {"template": template if chat_template == "llama3_1" else chat_template, **settings},
                "rows": [[1, given]],
                "chat_template": (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8"),
                "special": special,
                "bos": bos,
                "eos": eos,
            }
        )
    question = {"program": str(INSIDE / "parity.py"), "cases": cases}
    answers = run_inside(train_python, "parity_cases.py", question, tmp_path_factory.mktemp("scratch"))
    return {name: Parity.of(answer) for name, answer in zip(CASES, answers, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_difference_is_found_and_its_cause_named(name: str, found: dict[str, Parity]) -> None:
    cause = CASES[name][-1]
    parity = found[name]
    assert list(parity.causes) == ([] if cause is None else [cause]), "\n".join(parity.lines())
    assert parity.equal == (cause is None)


@pytest.mark.slow
def test_every_difference_is_shown_with_both_sides(found: dict[str, Parity]) -> None:
    printed = "\n".join(found["qwen, result said by the user"].lines())
    assert "different: the server renders 1 of 1 conversations otherwise" in printed
    assert "row 1, prompt of turn 4" in printed
    assert "trained  '3 GB<|im_end|>" in printed
    assert "served   '<tool_response>\\n3 GB" in printed


@pytest.mark.slow
def test_calls_of_tools_that_are_not_declared_are_noted(found: dict[str, Parity]) -> None:
    assert found["qwen, words before a call"].toolless == 1
    assert found["qwen, calls and tools"].toolless == 0
    assert found["qwen, tools rendered into the system text"].toolless == 0


def lines_of(path: Path, count: int, **options: Any) -> Iterator[int]:
    for number, given in sample_rows(path, count, seed=1, **options):
        assert given == {"n": number}
        yield number


def test_a_sample_is_the_same_for_the_same_seed_and_keeps_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(f'{{"n":{number}}}\n' for number in range(1, 101)))
    taken = list(lines_of(path, 10))
    assert len(taken) == 10 and taken == sorted(taken) == list(lines_of(path, 10))
    assert list(lines_of(path, 500)) == list(range(1, 101))
    assert len(list(lines_of(path, 10, most_bytes=25))) in (2, 3)
    assert len(list(lines_of(path, 10, most_bytes=1))) == 1


def test_every_cause_is_met_by_a_case_or_is_explained() -> None:
    met = {case[-1] for case in CASES.values()}
    assert set(CAUSES) - met == {"unknown"}
