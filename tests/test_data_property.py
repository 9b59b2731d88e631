"""5,000 odd conversations: each is kept or rejected with a reason, and LLaMA-Factory takes all that is kept.

`benchmarks/fuzz_data.py` does the same with any number of them.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_data import examine, refused, through_files
from benchmarks.odd_conversations import LONG, Case, make_case

COUNT = 5000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """The conversations that the property was shown for; what breaks it is shrunk."""
    found: list[Case] = []

    @settings(
        max_examples=COUNT, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(chance=st.randoms(use_true_random=False))
    def every_row_is_kept_or_rejected_and_is_then_at_rest(chance: Random) -> None:
        case = make_case(chance)
        examine(case)
        found.append(case)

    every_row_is_kept_or_rejected_and_is_then_at_rest()
    return found


def test_llamafactory_takes_all_that_is_kept_and_no_row_or_character_is_forgotten(
    cases: list[Case], train_python: Path, tmp_path: Path
) -> None:
    assert len(cases) >= COUNT
    written, fates = through_files(cases, tmp_path)
    assert fates["kept"] > COUNT / 5 and fates["rejected"] > COUNT / 5, "both sides are shown"
    faults = refused(written, train_python, tmp_path)
    assert not faults, (len(faults), faults[0])


def test_what_is_shown_is_odd_enough(cases: list[Case]) -> None:
    shown = repr([case.row for case in cases])
    for mark in (
        "<think>",
        "</thinking>",
        "<|im_start|>",
        "'\\ud83d",
        "tool_calls",
        "tool_call_id",
        "developer",
        "None",
    ):
        assert mark in shown, mark
    assert len({case.template for case in cases}) > 5


def test_a_text_of_ten_megabytes_is_kept_whole_and_tokenised(train_python: Path, tmp_path: Path) -> None:
    text = "lorem ipsum é " * (10 * LONG // 14)
    row = {"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "a"}]}
    written, fates = through_files([Case("qwen", "sharegpt", row)], tmp_path)
    assert fates["kept"] == 2
    assert written["qwen"][1]["conversations"][0]["value"] == text
    assert not refused({"qwen": written["qwen"][1:]}, train_python, tmp_path)
