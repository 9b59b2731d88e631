"""`agent-sft data process` and `agent-sft data diff` as a user runs them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_sft.data.choosing import choose_pipeline
from agent_sft.data.difference import compare_files
from agent_sft.data.pipeline import load_pipeline
from agent_sft.data.processing import process_data
from agent_sft.data.trail import PROCESS, TRAILS
from agent_sft.errors import UserError
from tests.conftest import RunCli
from tests.rows import chat, said, user


@pytest.fixture(scope="session")
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


def write(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_pipeline_from_the_command_line(tmp_path: Path, run_cli: RunCli, repo: Path) -> None:
    source = repo / "examples" / "data" / "telecom_syc_5pct_500_processed.json"
    done = run_cli("data", "process", source, "--output", tmp_path / "new" / "data.jsonl")
    assert done.returncode == 0, done.stderr
    assert "telecom.yaml, because calls stand in the agent's words" in done.stderr
    assert "merge_turns: 483 changed\ntrim_trailing: 28 changed\n" in done.stdout
    report = json.loads((tmp_path / "new" / "data_report.json").read_text())
    assert report["pipeline"].endswith("telecom.yaml")
    assert report["turns"]["removed"] == 1676 + 28
    turns = report["turns"]
    assert f"turns: {turns['read']:,} read = {turns['kept']:,} kept + 1,704 removed\n" in done.stdout
    assert report["rows"]["kept"] == 500


def test_rejects_make_the_exit_code_one_unless_they_are_allowed(tmp_path: Path, run_cli: RunCli) -> None:
    write(tmp_path / "a.jsonl", chat(user("a"), said("b")), chat(user("a"), said("<think>")))
    (tmp_path / "p.yaml").write_text("transforms: [remove_think]")
    command = ("data", "process", "a.jsonl", "--pipeline", "p.yaml", "--output", "out/a.jsonl")
    done = run_cli(*command, cwd=tmp_path)
    assert done.returncode == 1
    assert "1 of 2 rows cannot be used: see out/rejects.jsonl" in done.stderr
    assert run_cli(*command, "--allow-rejects", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("transforms: [merge_turn]", "did you mean 'merge_turns'?"),
        ("transforms: [{kind: sample, params: {n: many}}]", "p.yaml, transform 1 (sample): the parameter 'n'"),
        (
            "transforms: ['own.py:Bad']",
            "a.jsonl, row 1, transform 'own.py:Bad': the transform raised ZeroDivisionError",
        ),
        ("transforms: ['own.py:Odd']", "gave nothing among its rows"),
    ],
)
def test_a_pipeline_that_cannot_work_is_one_message(
    tmp_path: Path, run_cli: RunCli, pipeline: str, message: str
) -> None:
    write(tmp_path / "a.jsonl", chat(user("a"), said("b")))
    (tmp_path / "p.yaml").write_text(pipeline)
    (tmp_path / "own.py").write_text(
        "class Bad:\n    def __call__(self, rows):\n        return [1 / 0 for row in rows]\n"
        "class Odd:\n    def __call__(self, rows):\n        return [None for row in rows]\n"
    )
    done = run_cli("data", "process", "a.jsonl", "--pipeline", "p.yaml", "--output", "out/a.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_pipeline_is_chosen_by_how_calls_are_recorded(tmp_path: Path, repo: Path) -> None:
    examples = repo / "examples" / "data"
    assert choose_pipeline([examples / "telecom_small_24.json"]).path.name == "telecom.yaml"
    assert choose_pipeline([examples / "airline_retail_40.json"]).path.name == "airline_retail.yaml"
    with pytest.raises(UserError, match="rows of no known format") as error:
        choose_pipeline([write(tmp_path / "raw.jsonl", {"from": "x", "to": "y"}, {"from": "x", "to": "y"})])
    assert "jsonl_to_chat" in str(error.value)


def test_a_row_is_shown_as_it_was_and_as_it_is(tmp_path: Path, run_cli: RunCli) -> None:
    before = write(
        tmp_path / "a.jsonl",
        chat({"role": "system", "content": "S"}, user("a"), said("b"), said("c")),
        chat(user("same"), said("as before")),
    )
    after = write(
        tmp_path / "b.jsonl", chat(user("a"), said("b\nc"), user("d"), said("e")), chat(user("same"), said("as before"))
    )
    done = run_cli("data", "diff", before, after)
    assert done.stdout.splitlines() == [
        "row 1",
        "  - system",
        "    - S",
        "    … 1 the same",
        "  ~ 2 assistant",
        "      b",
        "    + c",
        "  - 3 assistant",
        "    - c",
        "  + user",
        "    + d",
        "  + assistant",
        "    + e",
        "2 rows: 1 say the same, 1 differ, 0 of them are gone",
    ]
    whole = run_cli("data", "diff", before, after, "--row", "2").stdout
    assert whole.splitlines() == ["row 2", "    1 user", "      same", "    2 assistant", "      as before"]
    assert "there are 2 rows" in run_cli("data", "diff", before, after, "--row", "3").stderr


def test_the_ledger_tells_which_rows_are_gone_and_who_did_what(tmp_path: Path, run_cli: RunCli) -> None:
    source = write(
        tmp_path / "a.jsonl",
        chat(user("a"), said("b")),
        chat(user("a"), said("b")),
        chat(user("c"), said("<think>")),
        chat(user("d"), said("e"), said("f")),
    )
    (tmp_path / "p.yaml").write_text("transforms: [remove_think, dedup, merge_turns]")
    output = tmp_path / "out" / "b.jsonl"
    run_cli("data", "process", source, "--pipeline", tmp_path / "p.yaml", "--output", output, "--allow-rejects")
    lines = run_cli("data", "diff", source, output).stdout.splitlines()
    assert f"  left out by dedup: the same as row 1 of {source}" in lines
    assert "  rejected by remove_think: turn 2: reasoning that never ends" in lines
    assert "  merge_turns: 1 characters added; 1 turns removed" in lines
    assert lines[-1] == "4 rows: 1 say the same, 3 differ, 2 of them are gone"


def test_a_row_that_was_split_is_shown_as_one(tmp_path: Path, run_cli: RunCli) -> None:
    source = write(tmp_path / "a.jsonl", chat(user("a"), said("b"), user("c"), said("d")), chat(user("e"), said("f")))
    (tmp_path / "own.py").write_text(
        "class Halve:\n    def __call__(self, rows):\n        for row in rows:\n"
        "            yield {**row, 'messages': row['messages'][:2]}\n"
        "            if row['messages'][2:]:\n                yield {**row, 'messages': row['messages'][2:]}\n"
    )
    (tmp_path / "p.yaml").write_text("transforms: ['own.py:Halve']")
    done = run_cli("data", "process", source, "--pipeline", tmp_path / "p.yaml", "--output", tmp_path / "o" / "b.jsonl")
    assert done.returncode == 0, done.stderr
    found = list(compare_files(source, tmp_path / "o" / "b.jsonl"))
    assert [row.is_same for row in found] == [True, True]


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "a.jsonl", chat(user("a"), said("b")))
    two = write(tmp_path / "b.jsonl", chat(user("a"), said("b")), chat(user("a"), said("b")))
    for before, after in ((one, two), (two, one)):
        with pytest.raises(UserError, match="cannot be matched"):
            list(compare_files(before, after))


def test_a_terminal_gets_colours_and_a_file_none(tmp_path: Path, run_cli: RunCli) -> None:
    one = write(tmp_path / "a.jsonl", chat(user("a"), said("b")))
    two = write(tmp_path / "b.jsonl", chat(user("a"), said("c")))
    assert "\x1b" not in run_cli("data", "diff", one, two).stdout
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "agent_sft", "data", "diff", str(one), str(two)]
    subprocess.run(command, stdout=theirs, check=True)
    os.close(theirs)
    assert b"\x1b[31m    - b" in os.read(ours, 10000)
    os.close(ours)


def test_a_runs_trail_tells_the_rows_of_several_inputs_apart(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path in paths:
        rows = [chat(user(f"{path.name} {number}"), said("x"), user("bye")) for number in range(20)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    split = {"kind": "split", "params": {"by": "messages.0.content", "eval": 0.4}}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"transforms": ["trim_trailing", split]}))
    (tmp_path / TRAILS).mkdir()
    output = tmp_path / "processed" / "d.jsonl"
    with (tmp_path / TRAILS / PROCESS).open("wb") as stream:
        process_data(paths, load_pipeline(tmp_path / "p.yaml"), output=output, trail=stream)
    held_out = output.with_name("d_eval.jsonl")
    for path in paths:
        kept = [one for one in compare_files(path, output) if one.fate is None]
        apart = [one for one in compare_files(path, held_out) if one.fate is None]
        assert {one.row for one in kept}.isdisjoint(one.row for one in apart)
        assert len(kept) + len(apart) == 20
        assert len(kept) > 0 < len(apart)
        for one in (*kept, *apart):
            assert [part.deed for part in one.parts] == ["same", "same", "removed"]
            assert one.parts[0].after == f"{path.name} {one.row - 1}"
