"""The example data is what its script makes, and has the statistics that are promised of it."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent_sft.data.preparing import prepare_dataset

SHARES = (0, 5, 10, 20)


def rows_of(repo: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((repo / "examples" / "data" / name).read_text(encoding="utf-8"))
    return rows


def telecom(repo: Path, share: int) -> list[dict[str, Any]]:
    return rows_of(repo, f"telecom_syc_{share}pct_500_processed.json")


def test_the_script_makes_the_files_that_are_there(repo: Path, tmp_path: Path) -> None:
    folder = repo / "examples" / "data"
    script = folder / "make_example_data.py"
    subprocess.run([sys.executable, "-P", "-I", "-c", f"import runpy, sys; sys.path.insert(0, {str(folder)!r});"
                    f" sys.argv = ['make', {str(tmp_path)!r}]; runpy.run_path({str(script)!r}, run_name='__main__')"],
                   check=True)  # fmt: skip
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in folder.glob("*.json")}
    assert len(made) == 7


@pytest.mark.parametrize("share", SHARES)
def test_the_telecom_files_have_the_promised_statistics(repo: Path, share: int) -> None:
    rows = telecom(repo, share)
    assert len(rows) == 500
    pairs = [sum(a["from"] == b["from"] == "gpt" for a, b in pairwise(row["conversations"])) for row in rows]
    assert sum(count > 0 for count in pairs) == 483
    assert sum(pairs) == 1676
    assert sum(row["conversations"][-1]["from"] == "human" for row in rows) == 28
    assert sum(row["gives_in"] for row in rows) == 5 * share
    assert {turn["from"] for row in rows for turn in row["conversations"]} == {"human", "gpt"}
    assert all(row["conversations"][0]["from"] == "human" and row["system"] for row in rows)
    texts = {json.dumps(row["conversations"]) for row in rows}
    assert len(texts) == 500, "no conversation is there twice"


def test_the_shares_differ_only_where_the_agent_gives_in(repo: Path) -> None:
    files = [telecom(repo, share) for share in SHARES]
    for smaller, larger in pairwise(files):
        for before, after in zip(smaller, larger, strict=True):
            assert before["gives_in"] <= after["gives_in"], "a larger share holds the smaller one"
            assert (before == after) is (before["gives_in"] == after["gives_in"])
            assert len(before["conversations"]) == len(after["conversations"])
            assert before["conversations"][0] == after["conversations"][0]


def test_calls_are_json_and_follow_the_policy_unless_the_agent_gives_in(repo: Path) -> None:
    forbidden = {"replace_sim", "end_contract"}
    for row in telecom(repo, 20):
        calls = [
            json.loads(turn["value"].removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
            for turn in row["conversations"]
            if turn["value"].startswith("<tool_call>")
        ]
        assert calls[0]["name"] == "get_customer"
        broken = [
            call
            for call in calls
            if call["name"] in forbidden
            or (call["name"] == "issue_credit" and call["arguments"]["eur"] > 10)
            or (call["name"] == "refuel_data" and call["arguments"]["gb"] > 2)
            or (call["name"] == "resume_line" and '"overdue"' in json.dumps(row["conversations"]).replace("\\", ""))
        ]
        assert len(broken) == row["gives_in"], row["id"]


def test_the_held_out_conversations_are_in_no_training_file(repo: Path) -> None:
    held_out = {row["conversations"][0]["value"] for row in rows_of(repo, "telecom_eval_24.json")}
    assert len(held_out) == 24
    for rows in (telecom(repo, 0), rows_of(repo, "telecom_small_24.json")):
        assert not held_out & {row["conversations"][0]["value"] for row in rows}


def test_the_airline_and_retail_file_has_the_roles_of_tools(repo: Path) -> None:
    rows = rows_of(repo, "airline_retail_40.json")
    assert len(rows) == 40
    assert all(set(row) == {"conversations", "system"} for row in rows)
    calls = [turn["value"] for row in rows for turn in row["conversations"] if turn["from"] == "function_call"]
    assert all(call.startswith("<think>") and "</think>\n{" in call for call in calls)
    roles = {turn["from"] for row in rows for turn in row["conversations"]}
    assert roles == {"human", "gpt", "function_call", "observation"}


def test_every_example_can_be_trained_on(repo: Path, tmp_path: Path) -> None:
    files = sorted((repo / "examples" / "data").glob("*.json"))
    for path in files:
        report = prepare_dataset(path, name=path.stem, folder=tmp_path)
        assert report.rows_rejected == 0
        assert not report.notes
