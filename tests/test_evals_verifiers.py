"""Verifiers accept what is right, reject what is wrong, and say why."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_sft.errors import UserError
from agent_sft.evals.verifiers.contract import Answer, Call, VerifierFailed
from agent_sft.evals.verifiers.registry import VERIFIERS, make_verifier
from agent_sft.evals.verifiers.texts import equal, numbers

NOWHERE = Path()

Case = tuple[str, dict[str, Any], Answer]


def said(text: str) -> Answer:
    return Answer(text=text)


def called(*calls: tuple[str, Any]) -> Answer:
    return Answer(calls=tuple(Call(name, arguments) for name, arguments in calls))


REFUEL = {"name": "refuel", "arguments": {"line": "L1", "gb": 2}}
LOOK = {"name": "look", "arguments": {"id": 7}}
SCHEMA = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}

ACCEPTED: list[Case] = [
    ("answered", {}, said("No.")),
    ("answered", {}, called(("look", {}))),
    ("contains", {"expected": "<answer>A</answer>"}, said("So: <answer>A</answer>.")),
    ("contains", {"expected": ["one", "two"]}, said("two and one")),
    ("contains", {"expected": "straße", "ignore_case": True}, said("STRASSE")),
    ("exact", {"expected": "yes"}, said(" yes\n")),
    ("exact", {"expected": ["yes", "sure"], "ignore_case": True}, said("Sure")),
    (
        "exact",
        {"expected": "B", "pattern": "<answer>(.*?)</answer>"},
        said("<answer>A</answer> no: <answer> B </answer>"),
    ),
    ("regex", {"pattern": r"^\d{3}-\d{4}$"}, said("555-1234")),
    ("regex", {"pattern": "HELLO", "ignore_case": True}, said("say hello")),
    ("numeric", {"expected": 1250}, said("That is 3 boxes, so 1,250.00 EUR.")),
    ("numeric", {"expected": -0.5}, said("x = −.5")),
    ("numeric", {"expected": 3e8, "relative_tolerance": 0.01}, said("about 2.998e8 m/s")),
    ("numeric", {"expected": 3, "take": "first"}, said("3 of 10")),
    ("numeric", {"expected": 42, "take": "only"}, said("42")),
    ("numeric", {"expected": 18, "pattern": r"####\s*(.+)"}, said("9 + 9 = 18\n#### 18\n(page 4)")),
    ("numeric", {"expected": 0.1, "tolerance": 0}, said("0.1")),
    ("json_equal", {"expected": {"a": 1, "b": [True]}}, said('{"b": [true], "a": 1.0}')),
    ("json_equal", {"expected": [1, 2]}, said("Here:\n```json\n[1, 2]\n```\nDone.")),
    ("json_equal", {"expected": None}, said("null")),
    ("json_schema", {"expected": SCHEMA}, said('{"city": "Oslo", "more": 1}')),
    ("tool_call", {"expected": REFUEL}, called(("refuel", {"gb": 2.0, "line": "L1"}))),
    ("tool_call", {"expected": {"name": "refuel"}}, called(("refuel", {"gb": 9}))),
    ("tool_call", {"expected": [REFUEL, LOOK]}, called(("look", {"id": 7}), ("refuel", {"line": "L1", "gb": 2}))),
    ("tool_call", {"expected": LOOK, "allow_others": True}, called(("other", {}), ("look", {"id": 7}))),
    (
        "tool_call",
        {"expected": [LOOK, REFUEL], "ordered": True},
        called(("look", {"id": 7}), ("refuel", REFUEL["arguments"])),
    ),
    ("tool_call", {"expected": []}, said("I cannot do that.")),
    (
        "tool_call",
        {"expected": LOOK},
        said('Wait.\n<tool_call>\n{"name": "look", "arguments": {"id": 7}}\n</tool_call>'),
    ),
]

REJECTED: list[tuple[str, dict[str, Any], Answer, str]] = [
    ("answered", {}, said(" \n"), "says nothing and calls nothing"),
    ("contains", {"expected": "A"}, said("a"), "does not contain 'A'"),
    ("contains", {"expected": ["one", "two"]}, said("one"), "does not contain 'two'"),
    ("exact", {"expected": "yes"}, said("yes, sure"), "is 'yes, sure', not 'yes'"),
    ("exact", {"expected": "B", "pattern": "<a>(.*)</a>"}, said("B"), "nothing in it matches"),
    ("regex", {"pattern": "^a$"}, said("ab"), "nothing in it matches"),
    ("numeric", {"expected": 4}, said("4 or 5"), "is 5, not 4"),
    ("numeric", {"expected": 4}, said("four"), "no number"),
    ("numeric", {"expected": 4}, said("model v4"), "no number"),
    ("numeric", {"expected": 4, "take": "only"}, said("4 4"), "2 numbers"),
    ("numeric", {"expected": 4, "tolerance": 0.1}, said("4.11"), "is 4.11"),
    ("numeric", {"expected": 4, "pattern": "= (.*)"}, said("4"), "nothing in it matches"),
    ("json_equal", {"expected": {"a": 1}}, said('{"a": true}'), "'a' is true, not 1"),
    ("json_equal", {"expected": {"a": 1}}, said('{"a": 1, "b": 2}'), "it has 'b' besides"),
    ("json_equal", {"expected": {"a": {"c": [1, 2]}}}, said('{"a": {"c": [1, 3]}}'), "element 2 of 'c' is 3, not 2"),
    ("json_equal", {"expected": {"a": 1}}, said("a: 1"), "is no JSON"),
    ("json_equal", {"expected": [1]}, said("[1, 1]"), "2 elements, not 1"),
    ("json_schema", {"expected": SCHEMA}, said('{"city": 3}'), "$.city"),
    ("json_schema", {"expected": SCHEMA}, said("Oslo"), "is no JSON"),
    ("tool_call", {"expected": REFUEL}, called(("refuel", {"line": "L1", "gb": 3})), "'gb' is 3, not 2"),
    ("tool_call", {"expected": REFUEL}, called(("refuel", {"line": "L1"})), "lacks 'gb'"),
    ("tool_call", {"expected": REFUEL}, called(("refuel", "{broken")), 'is "{broken"'),
    ("tool_call", {"expected": REFUEL}, called(("look", {})), "does not call refuel but look"),
    ("tool_call", {"expected": REFUEL}, said("Done!"), "does not call refuel"),
    ("tool_call", {"expected": LOOK}, called(("look", {"id": 7}), ("look", {"id": 7})), "also calls look"),
    ("tool_call", {"expected": [LOOK, LOOK]}, called(("look", {"id": 7})), "does not call look"),
    ("tool_call", {"expected": []}, called(("look", {})), "also calls look"),
    ("tool_call", {"expected": LOOK}, said('<tool_call>{"name": "look", "arg'), "cannot be read"),
    (
        "tool_call",
        {"expected": [LOOK, REFUEL], "ordered": True},
        called(("refuel", REFUEL["arguments"]), ("look", {"id": 7})),
        "calls refuel before look",
    ),
]


@pytest.mark.parametrize(("name", "params", "answer"), ACCEPTED)
def test_right_answers_are_accepted(name: str, params: dict[str, Any], answer: Answer) -> None:
    verifier = make_verifier({"kind": "in_process", "fn_name": name, **params}, where="row 1", folder=NOWHERE)
    verdict = verifier.verify(answer)
    assert (verdict.score, verdict.reason) == (1, None)


@pytest.mark.parametrize(("name", "params", "answer", "reason"), REJECTED)
def test_wrong_answers_are_rejected_with_the_reason(
    name: str, params: dict[str, Any], answer: Answer, reason: str
) -> None:
    verdict = make_verifier({"fn_name": name, **params}, where="row 1", folder=NOWHERE).verify(answer)
    assert verdict.score == 0
    assert verdict.reason is not None
    assert reason in verdict.reason


def test_every_verifier_is_tried_here() -> None:
    in_files = {"python", "command"}
    tried = {name for name, *_ in ACCEPTED}
    assert tried == {name for name, *_ in REJECTED} == set(VERIFIERS.built_in) - in_files


@pytest.mark.parametrize(
    ("specification", "problem"),
    [
        ("contains", "is no object"),
        ({"expected": "x"}, "no 'fn_name'"),
        ({"fn_name": "contain", "expected": "x"}, "did you mean 'contains'?"),
        ({"kind": "contains", "expected": "x"}, 'write "fn_name": "contains"'),
        ({"kind": "in_proces", "fn_name": "contains"}, "did you mean 'in_process'?"),
        ({"fn_name": "contains"}, "needs the parameter 'expected'"),
        ({"fn_name": "contains", "expected": "x", "ignorecase": True}, "did you mean 'ignore_case'?"),
        ({"fn_name": "contains", "expected": 3}, "'expected"),
        ({"fn_name": "regex", "pattern": "("}, "is no regular expression"),
        ({"fn_name": "exact", "expected": "", "pattern": "["}, "is no regular expression"),
        ({"fn_name": "numeric", "expected": "many"}, "expected"),
        ({"fn_name": "numeric", "expected": "NaN"}, "expected"),
        ({"fn_name": "numeric", "expected": 1, "tolerance": -1}, "tolerance"),
        ({"fn_name": "json_schema", "expected": {"type": "objekt"}}, "is no JSON schema"),
        ({"fn_name": "tool_call", "expected": {"arguments": {}}}, "name"),
        ({"fn_name": "python", "function": "check.py"}, "function"),
        ({"fn_name": "python", "function": "missing.py:score"}, "missing.py"),
        ({"fn_name": "command", "command": []}, "command"),
        ({"fn_name": "command", "command": ["no-such-program-here"]}, "no program 'no-such-program-here'"),
        ({"fn_name": "command", "command": ["true"], "time_limit": 0}, "time_limit"),
    ],
)
def test_a_wrong_specification_says_what_to_do(specification: Any, problem: str) -> None:
    with pytest.raises(UserError) as refused:
        make_verifier(specification, where="tasks.jsonl, row 7", folder=NOWHERE)
    assert problem in str(refused.value)
    assert "tasks.jsonl, row 7" in str(refused.value)


def python_verifier(folder: Path, source: str, **params: Any) -> Any:
    (folder / "check.py").write_text(source)
    return make_verifier({"fn_name": "python", "function": "check.py:score", **params}, where="row 1", folder=folder)


def test_a_function_of_ones_own_decides(tmp_path: Path) -> None:
    source = "def score(answer, expected):\n    return sum(word in answer.text for word in expected) / len(expected)\n"
    verifier = python_verifier(tmp_path, source, expected=["a", "b"])
    assert verifier.verify(said("a b")).score == 1
    assert verifier.verify(said("a")).score == 0.5
    assert verifier.verify(said("")).reason == "check.py:score gives it 0"
    source = (
        "from agent_sft.evals.verifiers.registry import verify\n"
        "def score(answer, expected): return verify('numeric', answer, expected=expected)\n"
    )
    assert python_verifier(tmp_path, source, expected=4).verify(said("5")).reason == "is 5, not 4"
    changed = python_verifier(tmp_path, "def score(answer, expected): return True")
    assert changed.verify(said("")).score == 1


@pytest.mark.parametrize("body", ["1/0", "return 'yes'", "return None", "return 2", "return float('nan')"])
def test_a_function_that_fails_says_nothing_about_the_answer(tmp_path: Path, body: str) -> None:
    verifier = python_verifier(tmp_path, f"def score(answer, expected):\n    {body}\n")
    with pytest.raises(VerifierFailed, match=r"check\.py:score"):
        verifier.verify(said("x"))


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("def scores(answer, expected): pass", "did you mean 'scores'?"),
        ("import no_such_module", "cannot be imported: ModuleNotFoundError"),
        ("def score(:", "cannot be imported: SyntaxError"),
        ("score = 3", "has no function 'score'"),
    ],
)
def test_a_file_without_the_function_is_refused(tmp_path: Path, source: str, problem: str) -> None:
    with pytest.raises(UserError) as refused:
        python_verifier(tmp_path, source)
    assert problem in str(refused.value)


def command_verifier(folder: Path, program: str, **params: Any) -> Any:
    (folder / "check.py").write_text(program)
    specification = {"fn_name": "command", "command": [sys.executable, "check.py"], **params}
    return make_verifier(specification, where="row 1", folder=folder)


def test_a_command_of_ones_own_decides(tmp_path: Path) -> None:
    program = (
        "import json, sys\n"
        "given = json.load(sys.stdin)\n"
        "print('first line')\n"
        "print('calls', len(given['answer']['calls']))\n"
        "sys.exit(given['answer']['text'] != given['expected'])\n"
    )
    verifier = command_verifier(tmp_path, program, expected="x")
    assert verifier.verify(said("x")).score == 1
    verdict = verifier.verify(said("y"))
    assert (verdict.score, verdict.reason) == (0, "calls 0")


def test_a_command_that_breaks_says_nothing_about_the_answer(tmp_path: Path) -> None:
    verifier = command_verifier(tmp_path, "import sys\nsys.stderr.write('no database\\n')\nsys.exit(3)")
    with pytest.raises(VerifierFailed, match="code 3: 'no database'"):
        verifier.verify(said("x"))


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    mark = str(987_000_000 + os.getpid())
    program = f"import subprocess, time\nsubprocess.Popen(['sleep', '{mark}'])\ntime.sleep(987)"
    verdict = command_verifier(tmp_path, program, time_limit=1).verify(said("x"))
    assert verdict.score == 0
    assert verdict.reason is not None
    assert "longer than 1 s" in verdict.reason
    assert not sleeping(mark)


@pytest.mark.slow
def test_a_command_ends_at_its_limit_also_when_we_are_killed(tmp_path: Path) -> None:
    mark = str(986_000_000 + os.getpid())
    (tmp_path / "ask.py").write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from agent_sft.evals.verifiers.contract import Answer\n"
        "from agent_sft.evals.verifiers.registry import make_verifier\n"
        f"ask = {{'fn_name': 'command', 'command': ['sleep', '{mark}'], 'time_limit': 3}}\n"
        "verifier = make_verifier(ask, where='', folder=Path())\n"
        "print('ready', flush=True)\n"
        "verifier.verify(Answer())\n"
    )
    asking = subprocess.Popen([sys.executable, tmp_path / "ask.py"], stdout=subprocess.PIPE)
    assert asking.stdout is not None
    assert asking.stdout.readline() == b"ready\n"
    wait_until(lambda: sleeping(mark))
    asking.kill()
    asking.communicate()
    wait_until(lambda: not sleeping(mark))


def sleeping(seconds: str) -> bool:
    """Tell whether a process sleeps so long; by numbers of our own, since others may run the same tests."""
    found = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    return any(words and words[-2:] == ["sleep", seconds] for words in found)


def wait_until(condition: Any) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_verifier_of_ones_own_is_found_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from agent_sft.evals.verifiers.contract import ACCEPTED, Verifier, rejected\n"
        "class Short(Verifier):\n"
        "    def verify(self, answer):\n"
        "        return ACCEPTED if len(answer.text) < 5 else rejected('is long')\n"
    )
    verifier = make_verifier({"fn_name": "mine.py:Short"}, where="row 1", folder=tmp_path)
    assert verifier.verify(said("abc")).score == 1
    assert verifier.verify(said("abcdef")).reason == "is long"


@pytest.mark.parametrize(
    ("body", "said_of_it"),
    [
        ("raise RuntimeError('no table')", "Hasty raised RuntimeError: no table"),
        ("return True", "returned True, which is"),
    ],
)
def test_whatever_a_verifier_of_ones_own_does_wrong_is_its_failure(tmp_path: Path, body: str, said_of_it: str) -> None:
    (tmp_path / "mine.py").write_text(
        "from agent_sft.evals.verifiers.contract import Verifier\n"
        f"class Hasty(Verifier):\n    def verify(self, answer):\n        {body}\n"
    )
    verifier = make_verifier({"fn_name": "mine.py:Hasty"}, where="row 1", folder=tmp_path)
    with pytest.raises(VerifierFailed, match=said_of_it):
        verifier.judge(said("abc"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_json_is_equal_when_its_canonical_text_is(one: Any, other: Any) -> None:
    import json

    texts = [json.dumps(value, sort_keys=True) for value in (one, other)]
    assert equal(one, other) == (texts[0] == texts[1])


@given(st.integers(-(10**12), 10**12), st.integers(0, 6))
def test_a_number_is_found_however_it_is_written(units: int, decimals: int) -> None:
    value = units / 10**decimals
    for text in (f"{value:.6f}", f"{value:,.6f}", f"so it is {value:,.6f}.", f"${value:.6f}", f"{value:.12e}"):
        assert [round(float(number), 6) for number in numbers(text)] == [pytest.approx(round(value, 6), abs=1e-6)]
