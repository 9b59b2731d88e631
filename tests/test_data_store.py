"""Datasets by name: pushed once, never changed, found again by name and version."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_sft.data.sources import open_sources
from agent_sft.data.store import Store, is_reference, local_path, resolve
from agent_sft.errors import UserError

ROWS = [{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]}] * 3


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "support.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return path


@pytest.fixture(params=["folder", "file", "memory"])
def where(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store in a folder, behind a file:// URL, and in memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "a store"
    return {"folder": str(folder), "file": f"file://{folder}", "memory": f"memory://{tmp_path.name}"}[request.param]


def push(store: Store, path: Path, version: str = "0.1.0", **options: Any) -> tuple[Any, bool]:
    rows: list[Any] = options.pop("rows", ROWS)
    return store.push(path, "support-demos", version, rows=rows, **options)


def test_what_was_pushed_comes_back_to_the_byte(data: Path, where: str) -> None:
    card, new = push(Store.at(where), data, licence="CC0-1.0", origin="calls of May", transforms=["dedup"])
    assert new
    found = resolve("support-demos@0.1.0", where)
    assert found.path.read_bytes() == data.read_bytes()
    assert found.card == card
    assert (card.rows, card.turns, card.size) == (3, 6, data.stat().st_size)
    assert (card.licence, card.origin, card.transforms) == ("CC0-1.0", "calls of May", ("dedup",))


def test_the_same_content_again_changes_nothing_and_other_content_is_refused(data: Path, where: str) -> None:
    store = Store.at(where)
    first, _ = push(store, data)
    assert push(store, data, licence="another") == (first, False)
    data.write_text(data.read_text() * 2)
    with pytest.raises(UserError, match=r"support-demos@0\.1\.0 exists with other content"):
        push(store, data)
    assert [card.digest for card in store.cards()] == [first.digest]


def test_latest_is_the_highest_version_not_the_last_pushed(data: Path, where: str) -> None:
    store = Store.at(where)
    for version in ("0.9.0", "0.10.0", "0.10.0-rc.1", "0.2.0"):
        push(store, data, version)
    assert resolve("support-demos@latest", where).card.version == "0.10.0"
    assert [card.version for card in store.cards()] == ["0.2.0", "0.9.0", "0.10.0-rc.1", "0.10.0"]


def test_equal_content_is_kept_once(data: Path, tmp_path: Path) -> None:
    store = Store.at(str(tmp_path / "store"))
    push(store, data, "0.1.0")
    push(store, data, "0.2.0")
    assert len(list((tmp_path / "store" / "objects").iterdir())) == 1


def test_a_missing_name_or_version_is_told_with_what_is_near(data: Path, where: str) -> None:
    store = Store.at(where)
    with pytest.raises(UserError, match="nothing was pushed yet"):
        store.card("support-demos@0.1.0")
    push(store, data)
    with pytest.raises(UserError, match="did you mean 'support-demos'"):
        store.card("support-demo@0.1.0")
    with pytest.raises(UserError, match=r"has the versions 0\.1\.0"):
        store.card("support-demos@0.3.0")


@pytest.mark.parametrize("name", ["../demos", "a/b", "a..b", "", "a@b", ".hidden", "a b", "a\\b"])
def test_a_name_that_leads_elsewhere_is_refused(name: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be the name of a dataset"):
        Store.at(str(tmp_path / "store")).push(data, name, "0.1.0", rows=ROWS)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("version", ["1", "latest", "1.0", "v1.0.0", "1.0.0/..", "../1.0.0", ""])
def test_what_is_no_version_is_refused(version: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no version"):
        push(Store.at(str(tmp_path / "store")), data, version)
    assert not (tmp_path / "store").exists()


def test_nothing_is_stored_of_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text(f"{json.dumps(ROWS[0])}\n{{not json\n")
    rows = (row for source in open_sources([broken]) for _, row in source.rows())
    with pytest.raises(UserError, match="not JSON"):
        push(Store.at(str(tmp_path / "store")), broken, rows=rows)
    assert not (tmp_path / "store").exists()


def test_damaged_content_is_not_handed_out(data: Path, where: str, tmp_path: Path) -> None:
    push(Store.at(where), data)
    kept = resolve("support-demos@0.1.0", where).path
    kept.write_text("something else")
    with pytest.raises(UserError, match="missing or damaged"):
        resolve("support-demos@0.1.0", where)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_disk_that_fills_up_leaves_nothing_of_a_version(tmp_path: Path, scheme: str) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps(ROWS[0] | {"id": "x" * 3_000_000}))
    store = tmp_path / "disk"
    store.mkdir()
    push = f"data push {data} --name a --version 0.1.0 --store {scheme}{store}/st"
    script = f"""
    mount -t tmpfs -o size=1m tmpfs '{store}'
    '{sys.executable}' -P -m agent_sft {push} || echo "exit $?"
    find '{store}' -type f
    """
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-euc", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "exit 2\n", done.stdout + done.stderr
    assert "no space left" in done.stderr and "Traceback" not in done.stderr


def test_a_store_that_cannot_be_reached_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="cannot be reached"):
        Store.at("nowhere://bucket/datasets").cards()


def test_a_name_with_a_version_is_read_wherever_a_file_is(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_SFT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    push(Store.at(), data)
    assert (tmp_path / "home" / "datasets" / "objects").is_dir()
    rows = [
        (origin.file, origin.row) for source in open_sources(["support-demos@latest"]) for origin, _ in source.rows()
    ]
    assert rows == [("support-demos@latest", number) for number in (1, 2, 3)]
    assert local_path(Path("support-demos@0.1.0")).read_bytes() == data.read_bytes()


def test_a_file_of_that_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demos@1.0.0").write_text("{}")
    assert not is_reference("demos@1.0.0")
    assert local_path(Path("demos@1.0.0")) == Path("demos@1.0.0")
    assert is_reference("demos@2.0.0")
    assert not is_reference("folder/demos@2.0.0")


def test_what_preparing_did_is_on_the_card(data: Path, tmp_path: Path) -> None:
    (tmp_path / "data_report.json").write_text(json.dumps({"support": {"changes": {"merged": {}}}}))
    card, _ = push(Store.at(str(tmp_path / "store")), data)
    assert card.transforms == ("merged",)
