"""How the model that trains answers: sampled as a server samples, calls read as a server reads them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from agent_sft.engines.llamafactory.facts import INSIDE
from tests.support import run_inside

pytestmark = pytest.mark.slow


def test_answers(train_python: Path, tmp_path: Path) -> None:
    logits, temperature, samples = [1.0, 0.0, -1.0, 2.0], 0.5, 4000
    texts = [
        'One.\n<tool_call>\n{"name": "f", "arguments": {"a": "é"}}\n</tool_call>',
        '<tool_call>{"name": "f", "arguments": {}}</tool_call><tool_call>{"name": </tool_call>',
        "no call",
    ]
    question = {"logits": logits, "temperature": temperature, "samples": samples, "texts": texts}
    asked = {**question, "inside": str(INSIDE.absolute())}
    found = run_inside(train_python, "answering_jobs.py", asked, tmp_path)
    # The same seeds give the same tokens; their shares are those of softmax(logits / temperature).
    assert found["same"]
    weights = [math.exp(logit / temperature) for logit in logits]
    for count, weight in zip(found["counts"][0], weights, strict=True):
        assert count / samples == pytest.approx(weight / sum(weights), abs=0.025)
    assert found["calls"] == [[{"name": "f", "arguments": '{"a": "é"}'}], [], []]
    assert found["message"]["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert found["message"]["content"] == ""
