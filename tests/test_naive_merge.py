"""Why a plain merge of equal roles is not enough: what it gives in LLaMA-Factory, and what is given here.

The cases that end up in other roles are in test_data_carrier.py; here are those in which something would be lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_sft.data.carrier import carry
from agent_sft.data.conversation import Origin
from agent_sft.data.dialects import RESULT_JOINT, dialect_of
from agent_sft.data.formats import sharegpt
from agent_sft.data.merging import merge_turns
from agent_sft.data.sharegpt import normalise
from agent_sft.data.turns import Unusable
from tests.accepting import ask

pytestmark = pytest.mark.slow

CALL = '{"name": "look", "arguments": {"id": 7}}'
OTHER = '{"name": "pay", "arguments": {}}'


def row(*pairs: tuple[str, Any], **columns: Any) -> dict[str, Any]:
    return {"system": "", "tools": "", "conversations": [{"from": a, "value": b} for a, b in pairs], **columns}


def naive(given: dict[str, Any]) -> dict[str, Any]:
    """Join equal roles; drop a last human turn where the count is odd."""
    turns = merge_turns(given["conversations"])
    if len(turns) % 2 and turns[-1]["from"] == "human":
        turns = turns[:-1]
    return {**given, "conversations": turns}


CALLS = row(("human", "q"), ("function_call", CALL), ("function_call", OTHER), ("observation", "1"), ("gpt", "ok"))
RESULTS = row(
    ("human", "q"), ("function_call", f"[{CALL}, {OTHER}]"), ("observation", "1"), ("observation", "2"), ("gpt", "ok")
)
ORPHAN = row(("human", "q"), ("observation", "1"), ("gpt", "a"))
TWO_SYSTEMS = row(("system", "from the turn"), ("human", "q"), ("gpt", "a"), system="from the column")
NULL = row(("human", "q"), ("gpt", None))
TELECOM = row(("human", "q"), ("gpt", f"<tool_call>\n{CALL}\n</tool_call>"), ("human", "ACTIVE"), ("gpt", "ok"))


@pytest.fixture(scope="module")
def answers(train_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """What LLaMA-Factory makes of each case merged plainly, and of what is made of it here."""
    dialect = dialect_of("qwen")
    cases = {"calls": CALLS, "results": RESULTS, "systems": TWO_SYSTEMS, "telecom": TELECOM}
    ours = [normalise(case, dialect).as_row() for case in cases.values()]
    plain = [naive(case) for case in (*cases.values(), ORPHAN, NULL)]
    batches = [("qwen", plain), ("qwen", ours)]
    merged, carried = ask(train_python, {"batches": batches}, tmp_path_factory.mktemp("asked"))
    return {
        name: (merged[index], carried[index] if index < len(carried) else None)
        for index, name in enumerate((*cases, "orphan", "null"))
    }


def test_two_calls_in_a_row_end_the_training_and_become_a_list(answers: dict[str, tuple[Any, Any]]) -> None:
    merged, ours = answers["calls"]
    assert merged["error"].startswith("tokenising")
    assert ours["error"] is None and ours["trained"].count("<tool_call>\n") == 2


def test_the_boundary_of_two_results_is_lost_and_kept(answers: dict[str, tuple[Any, Any]]) -> None:
    merged, ours = answers["results"]
    assert "<tool_response>\n1\n2\n</tool_response>" in merged["text"]
    assert f"<tool_response>\n1{RESULT_JOINT}2\n</tool_response>" in ours["text"]


def test_a_result_without_a_call_is_dropped_there_and_refused_here(answers: dict[str, tuple[Any, Any]]) -> None:
    assert answers["orphan"][0]["error"] == "dropped"
    with pytest.raises(Unusable, match="with no call before it"):
        normalise(ORPHAN, dialect_of("qwen"))
    with pytest.raises(Unusable, match="with no call before it"):
        carry(sharegpt.read(ORPHAN, Origin(file="f", row=1)), dialect_of("qwen"))


def test_a_system_turn_silently_wins_over_the_column_and_both_are_kept(answers: dict[str, tuple[Any, Any]]) -> None:
    merged, ours = answers["systems"]
    assert "from the turn" in merged["text"] and "from the column" not in merged["text"]
    assert "from the column\n\nfrom the turn" in ours["text"]


def test_a_null_ends_the_training_there_and_is_refused_here(answers: dict[str, tuple[Any, Any]]) -> None:
    assert answers["null"][0]["error"].startswith("tokenising")
    with pytest.raises(Unusable, match="its value is null"):
        normalise(NULL, dialect_of("qwen"))


def test_two_nulls_in_a_row_crash_the_plain_merge() -> None:
    with pytest.raises(TypeError):
        naive(row(("human", "q"), ("gpt", None), ("gpt", None)))


def test_a_result_told_by_the_user_is_not_wrapped_there_and_is_here(answers: dict[str, tuple[Any, Any]]) -> None:
    merged, ours = answers["telecom"]
    assert merged["error"] is None and "<tool_response>" not in merged["text"]
    assert "<tool_response>\nACTIVE\n</tool_response>" in ours["text"]
