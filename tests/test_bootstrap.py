"""The entries at the top of the repository, as a newcomer calls them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SYSTEM_PYTHON = str(Path(sys.executable).resolve())
ENTRIES = ("merge_consecutive_turns.py", "prepare_sft_data.py", "run_sft.sh", "run_eval_sweep.sh")
CONVERSATION = {
    "conversations": [
        {"from": "human", "value": "Hello"},
        {"from": "gpt", "value": "Let me look."},
        {"from": "gpt", "value": "It is there."},
        {"from": "human", "value": "Thanks"},
    ]
}


def run_entry(entry: Path, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    interpreter = "bash" if entry.suffix == ".sh" else SYSTEM_PYTHON
    return subprocess.run(
        [interpreter, str(entry), *args], cwd=cwd, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_works_through_a_link_from_any_folder(repo: Path, tmp_path: Path, name: str) -> None:
    link = tmp_path / f"my {name}"
    link.symlink_to(repo / name)
    # Files that are called like modules of the standard library must not be taken for them.
    for module in ("json", "random", "types"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('the wrong module')\n")
    done = run_entry(Path(link.name) if name.endswith(".sh") else link, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: agent-sft")
    assert run_entry(link, "--no-such-option", cwd=tmp_path).returncode == 2


def test_paths_are_relative_to_where_the_user_is(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps([CONVERSATION]))
    done = run_entry(repo / "merge_consecutive_turns.py", "--input", "in.json", "--output", "out é.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    turns = json.loads((tmp_path / "out é.json").read_text())[0]["conversations"]
    assert [turn["value"] for turn in turns] == ["Hello", "Let me look.\nIt is there."]


@pytest.mark.slow
def test_a_fresh_clone_sets_itself_up_whatever_its_path(repo: Path, tmp_path: Path) -> None:
    clone = tmp_path / 'a "clone" of $HOME, it\'s é'
    clone.mkdir()
    for name in ("agent_sft", "requirements", "scripts"):
        shutil.copytree(repo / name, clone / name)
    shutil.copy(repo / "merge_consecutive_turns.py", clone)
    (tmp_path / "in.json").write_text(json.dumps([CONVERSATION]))
    done = run_entry(clone / "merge_consecutive_turns.py", "--input", "in.json", "--output", "out.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "making the core environment" in done.stderr
    assert (tmp_path / "out.json").exists()
    assert os.access(clone / ".venv" / "bin" / "agent-sft", os.X_OK)
