"""The benchmark of the evaluator's speed: its arithmetic, and a small run against a provider of a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.eval_throughput import lines, summary
from tests.conftest import ROOT
from tests.provider import KEY, Request, provider


def test_the_ratio_is_taken_round_by_round() -> None:
    result = summary({"ours": [2.0, 4.0, 1.0], "one at a time": [10.0, 12.0, 9.0], "limit": [1.0, 3.0, 1.0]}, 4.0)
    assert (result["gain"], result["smallest_gain"], result["reached"]) == (5.0, 3.0, True)
    assert result["share_of_limit"] == 0.75
    assert lines(result, 200)[0].split() == ["ours", "2.00", "s", "100.0", "tasks/s"]
    assert not summary({"ours": [2.0], "one at a time": [6.0], "limit": [1.0]}, 4.0)["reached"]


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    def slowly(request: Request) -> str:
        time.sleep(0.05)
        return "data"

    with provider(slowly) as server:
        done = subprocess.run(
            [
                *(sys.executable, ROOT / "benchmarks" / "eval_throughput.py", "--url", server.url, "--tasks", "24"),
                *("--rounds", "1", "--concurrency", "8", "--goal", "0.1", "--json", tmp_path / "figures.json"),
            ],
            env={**os.environ, "AGENT_SFT_API_KEY": KEY},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "of the limit" in done.stdout
    assert json.loads((tmp_path / "figures.json").read_text())["gain"] > 1
    assert len(server.requests) == 24 * 4
    assert 1 < server.most_at_once <= 8
