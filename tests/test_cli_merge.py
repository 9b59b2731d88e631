"""`merge_consecutive_turns.py` as a user runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import RunCli


@pytest.fixture(scope="session")
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


def test_the_statistics_of_the_example_are_printed(tmp_path: Path, repo: Path, run_cli: RunCli) -> None:
    source = repo / "examples" / "data" / "telecom_syc_5pct_500_processed.json"
    output = tmp_path / "měrged files" / "out $HOME.json"
    done = run_cli("merge", "--input", source, "--output", output)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [re.findall(r"\d+", line) for line in lines[:3]] == [["500"], ["483"], ["28"]]
    before, after, removed = map(int, re.findall(r"\d+", lines[3]))
    assert removed == before - after == 1676 + 28
    assert lines[4] == f"output: {output}"
    assert len(lines) == 5
    assert len(json.loads(output.read_text(encoding="utf-8"))) == 500


def test_writing_over_the_input(tmp_path: Path, run_cli: RunCli) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"conversations": [{"from": "gpt", "value": "a"}, {"from": "gpt", "value": "b"}]}]))
    assert run_cli("merge", "--input", path, "--output", path).returncode == 0
    assert json.loads(path.read_text()) == [{"conversations": [{"from": "gpt", "value": "a\nb"}]}]


@pytest.mark.parametrize(("content", "message"), [(None, "no such file"), ("", "empty"), ("[{]", "line 1, column 3")])
def test_bad_input_is_one_message_and_nothing_written(
    tmp_path: Path, run_cli: RunCli, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "data.json").write_text(content)
    before = sorted(tmp_path.iterdir())
    done = run_cli("merge", "--input", "data.json", "--output", "out/data.json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == before
