"""`prepare_sft_data.py` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import RunCli

GOOD = {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}
BAD = {"conversations": [{"from": "human", "value": "hi"}]}


@pytest.fixture(scope="session")
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


def prepare(run_cli: RunCli, folder: Path, *options: str) -> tuple[int, str, str]:
    done = run_cli("prepare", "--input", "data.json", "--dataset-name", "set", *options, cwd=folder)
    return done.returncode, done.stdout, done.stderr


def test_counts_are_printed_and_the_exit_code_is_zero(tmp_path: Path, run_cli: RunCli) -> None:
    (tmp_path / "data.json").write_text(json.dumps([GOOD] * 3))
    code, out, err = prepare(run_cli, tmp_path, "--output-dir", "work dir/é")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "data.json: 3 rows, 3 usable, 0 rejected"
    assert len((tmp_path / "work dir" / "é" / "set.jsonl").read_text().splitlines()) == 3


def test_rejects_make_the_exit_code_one_unless_they_are_allowed(tmp_path: Path, run_cli: RunCli) -> None:
    (tmp_path / "data.json").write_text(json.dumps([GOOD, BAD, GOOD]))
    code, out, err = prepare(run_cli, tmp_path, "--output-dir", "out")
    assert code == 1
    assert "row 2: " in out
    assert "1 of 3 rows cannot be trained on: see out/rejects.jsonl" in err
    assert "--allow-rejects" in err
    assert len((tmp_path / "out" / "set.jsonl").read_text().splitlines()) == 2
    code, _, err = prepare(run_cli, tmp_path, "--output-dir", "out", "--allow-rejects")
    assert (code, err) == (0, "")


def test_the_template_decides_what_can_be_trained_on(tmp_path: Path, run_cli: RunCli) -> None:
    call = json.dumps({"name": "a", "arguments": {}})
    roles = [("human", "x"), ("function_call", call), ("observation", "1"), ("observation", "2"), ("gpt", "y")]
    row = {"conversations": [{"from": role, "value": value} for role, value in roles]}
    (tmp_path / "data.json").write_text(json.dumps([GOOD, row]))
    assert prepare(run_cli, tmp_path, "--output-dir", "out")[0] == 0
    code, out, _ = prepare(run_cli, tmp_path, "--output-dir", "out", "--template", "llama3")
    assert code == 1
    assert "'llama3' cannot tell apart" in out


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, (), "data.json: no such file"),
        ("", (), "the file is empty"),
        ("{", (), "line 1, column 2"),
        ("7", (), "holds a number"),
        ("[{}", (), "cut off"),
        (json.dumps([BAD, BAD]), (), "none of the 2 rows can be trained on"),
        (json.dumps([GOOD]), ("--dataset-name", "a/b"), "the dataset name 'a/b' has a slash in it"),
        (json.dumps([GOOD]), ("--dataset-name", ".."), "the dataset name '..'"),
        (json.dumps([GOOD]), ("--output-dir", "data.json"), "is a file, not a folder"),
    ],
)
def test_bad_input_is_one_message_and_nothing_written(
    tmp_path: Path, run_cli: RunCli, content: str | None, options: tuple[str, ...], message: str
) -> None:
    if content is not None:
        (tmp_path / "data.json").write_text(content)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = prepare(run_cli, tmp_path, "--output-dir", "out", *options)
    assert (code, out) == (2, "")
    assert err.count("error:") == 1
    assert message in err
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before
