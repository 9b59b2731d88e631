"""`agent-sft data push | list | show | pull`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import RunCli
from tests.support import SMALL


def test_a_file_is_pushed_listed_shown_and_pulled(run_cli: RunCli, tmp_path: Path) -> None:
    env = {"AGENT_SFT_HOME": str(tmp_path / "home")}
    push = ("data", "push", SMALL, "--name", "support-demos", "--version", "0.1.0", "--licence", "Apache-2.0")
    done = run_cli(*push, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("stored: support-demos@0.1.0 (24 rows, sha256:")
    assert run_cli(*push, env=env).stdout.startswith("there already: support-demos@0.1.0")

    listed = run_cli("data", "list", env=env).stdout
    assert "support-demos@0.1.0" in listed and "24 rows" in listed and "Apache-2.0" in listed
    shown = run_cli("data", "show", "support-demos", env=env).stdout
    assert "rows       24" in shown and f"origin     {SMALL}" in shown

    pulled = run_cli("data", "pull", "support-demos@latest", "--output", tmp_path / "back.json", env=env)
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "back.json").read_bytes() == SMALL.read_bytes()


def test_other_content_is_refused_and_a_missing_name_shows_the_nearest(run_cli: RunCli, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "store")
    other = tmp_path / "other.json"
    other.write_text(json.dumps([{"conversations": []}]))
    named = ("--name", "support-demos", "--version", "0.1.0", *store)
    assert run_cli("data", "push", SMALL, *named).returncode == 0
    done = run_cli("data", "push", other, *named)
    assert (done.returncode, "exists with other content" in done.stderr) == (2, True)
    done = run_cli("data", "show", "support-demo", *store)
    assert (done.returncode, "did you mean 'support-demos'?" in done.stderr) == (2, True)
    done = run_cli("data", "push", other, "--name", "../demos", "--version", "0.1.0", *store)
    assert (done.returncode, "cannot be the name of a dataset" in done.stderr) == (2, True)
    done = run_cli("data", "show", "../demos", *store)
    assert (done.returncode, "--name" in done.stderr) == (2, False)
    done = run_cli("data", "pull", "support-demos@0.1.0", "--output", other, *store)
    assert (done.returncode, "exists with other content" in done.stderr) == (2, True)
    assert json.loads(other.read_text()) == [{"conversations": []}]


def test_a_version_is_read_where_a_file_is(run_cli: RunCli, tmp_path: Path) -> None:
    env = {"AGENT_SFT_STORE": f"file://{tmp_path}/store", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert run_cli("data", "push", SMALL, "--name", "demos", "--version", "1.0.0", env=env).returncode == 0
    merged = run_cli("merge", "--input", "demos@1.0.0", "--output", tmp_path / "merged.json", cwd=tmp_path, env=env)
    assert "conversations processed: 24" in merged.stdout, merged.stderr
    made = run_cli("prepare", "--input", "demos@latest", "--output-dir", tmp_path / "data", cwd=tmp_path, env=env)
    assert "24 rows, 24 usable, 0 rejected" in made.stdout, made.stderr
    dry = run_cli("sft", "demos@2.0.0", "--model", "tiny", "--dry-run", cwd=tmp_path, env=env)
    assert (dry.returncode, "'demos' has the versions 1.0.0" in dry.stderr) == (2, True)
