"""A file of rows to a dataset: every row is in the data or among the rejects, and nothing is half written."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_sft.data.preparing import prepare_dataset
from agent_sft.errors import UserError

GOOD = {
    "conversations": [{"from": "human", "value": "čau"}, {"from": "gpt", "value": "a"}, {"from": "gpt", "value": "b"}],
    "id": 1,
}
BAD = {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": None}], "note": {"x": [1]}}


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def written(tmp_path: Path, rows: list[Any], name: str = "data.json") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(rows))
    return path


def test_every_row_is_in_the_data_or_among_the_rejects(tmp_path: Path) -> None:
    source = written(tmp_path, [GOOD, BAD, GOOD, 7])
    report = prepare_dataset(source, name="set", folder=tmp_path / "new" / "out")
    assert (report.rows_read, report.rows_kept, report.rows_rejected) == (4, 2, 2)
    turns = [{"from": "human", "value": "čau"}, {"from": "gpt", "value": "a\nb"}]
    assert lines_of(report.data_path) == [{"conversations": turns, "system": "", "tools": ""}] * 2
    assert lines_of(report.rejects_path) == [
        {"dataset": "set", "row": 2, "reason": "turn 2 (gpt): its value is null, not a text", "data": BAD},
        {"dataset": "set", "row": 4, "reason": "the row is a number, not an object", "data": 7},
    ]
    assert (report.merged_conversations, report.merged_turns, report.turns_before, report.turns_after) == (2, 2, 6, 4)
    assert (report.trimmed_conversations, report.trimmed_turns) == (0, 0)
    assert json.loads(report.report_path.read_text())["set"]["rows_rejected"] == 2
    assert sorted(report.files) == sorted((tmp_path / "new" / "out").iterdir())


def test_what_is_printed_names_the_rows_and_where_everything_is(tmp_path: Path) -> None:
    source = written(tmp_path, [GOOD, *[BAD] * 5])
    assert prepare_dataset(source, name="set", folder=tmp_path).lines() == [
        f"{source}: 6 rows, 1 usable, 5 rejected",
        "read as ShareGPT conversations, recognised from the rows",
        "merged consecutive turns: 1 conversations, 1 turn",
        "total turns: 3 -> 2",
        f"dataset 'set': {tmp_path / 'set.jsonl'}",
        f"rejects, with reasons: {tmp_path / 'rejects.jsonl'}",
        *(f"  row {number}: turn 2 (gpt): its value is null, not a text" for number in (2, 3, 4)),
        "  and 2 more",
    ]


def test_rejects_of_an_earlier_time_do_not_stay(tmp_path: Path) -> None:
    source = written(tmp_path, [GOOD, BAD])
    assert prepare_dataset(source, name="set", folder=tmp_path / "out").rejects_path.exists()
    again = prepare_dataset(written(tmp_path, [GOOD]), name="set", folder=tmp_path / "out")
    assert not again.rejects_path.exists()
    assert again.rejects_path not in again.files


def test_datasets_share_a_folder_without_losing_what_belongs_to_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    prepare_dataset(written(tmp_path, [GOOD, BAD]), name="first", folder=folder)
    prepare_dataset(written(tmp_path, [7, GOOD]), name="second", folder=folder)
    prepare_dataset(written(tmp_path, [GOOD, GOOD, BAD]), name="first", folder=folder)
    rejects = lines_of(folder / "rejects.jsonl")
    assert sorted((reject["dataset"], reject["row"]) for reject in rejects) == [("first", 3), ("second", 1)]
    assert set(json.loads((folder / "dataset_info.json").read_text())) == {"first", "second"}
    assert set(json.loads((folder / "data_report.json").read_text())) == {"first", "second"}
    prepare_dataset(written(tmp_path, [GOOD]), name="first", folder=folder)
    assert [reject["dataset"] for reject in lines_of(folder / "rejects.jsonl")] == ["second"]


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Check that nothing below a folder is made, changed or left behind."""
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    yield
    assert {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")} == before


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps([BAD, 7, BAD, BAD]), "none of the 4 rows can be trained on; nothing was written\n  row 1: turn 2"),
        (json.dumps([BAD]), "the only row cannot be trained on"),
        (f"{json.dumps(GOOD)}\n{json.dumps(BAD)}\n{{broken", "line 3, column 2: not JSON"),
        ("", "the file is empty"),
    ],
)
def test_nothing_is_written_when_the_data_cannot_be_used(
    tmp_path: Path, content: str, message: str, existing: bool
) -> None:
    source = tmp_path / "source"
    source.write_text(content)
    folder = tmp_path / "deep" / "out"
    if existing:
        prepare_dataset(written(tmp_path, [GOOD, BAD]), name="set", folder=folder)
    with untouched(tmp_path), pytest.raises(UserError) as caught:
        prepare_dataset(source, name="set", folder=folder)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a,b", ".a"])
def test_a_name_that_cannot_be_used_is_told_before_anything_is_read(tmp_path: Path, name: str) -> None:
    with untouched(tmp_path), pytest.raises(UserError, match="the dataset name"):
        prepare_dataset(tmp_path / "nowhere.json", name=name, folder=tmp_path / "out")


def test_a_damaged_declaration_stops_it(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset_info.json").write_text('{"theirs": ')
    source = written(tmp_path, [GOOD])
    with untouched(tmp_path), pytest.raises(UserError, match=r"dataset_info\.json, line 1"):
        prepare_dataset(source, name="set", folder=tmp_path / "out")


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_folder_that_is_a_file_stops_it(tmp_path: Path, below: str) -> None:
    source = written(tmp_path, [GOOD])
    with untouched(tmp_path), pytest.raises(UserError, match=r"is a file, not a folder|lies below a file"):
        prepare_dataset(source, name="set", folder=source / below)


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "set.jsonl"
    source.write_text(json.dumps(GOOD))
    (tmp_path / "link").symlink_to(source)
    with untouched(tmp_path), pytest.raises(UserError, match="would write"):
        prepare_dataset(tmp_path / "link", name="set", folder=tmp_path)


def test_a_disk_that_fills_up_leaves_everything_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    prepare_dataset(written(tmp_path, [GOOD]), name="set", folder=folder)
    source = written(tmp_path, [GOOD] * 2000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with untouched(tmp_path), pytest.raises(UserError, match="cannot be written"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
            try:
                prepare_dataset(source, name="set", folder=folder)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    finally:
        signal.signal(signal.SIGXFSZ, handler)


VALUE = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
TURN = st.fixed_dictionaries(
    {}, optional={"from": st.sampled_from(["human", "gpt", "system", "x", None]), "value": VALUE}
)
ROW = VALUE | st.fixed_dictionaries(
    {}, optional={"conversations": VALUE | st.lists(TURN | VALUE, max_size=4), "system": VALUE, "tools": VALUE}
)


@pytest.mark.slow
@given(st.lists(ROW, max_size=6))
def test_whatever_the_rows_are_none_is_lost(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("any")
    source = folder / "rows.json"
    source.write_text(json.dumps([GOOD, *rows]))
    report = prepare_dataset(source, name="set", folder=folder)
    rejected = lines_of(report.rejects_path) if report.rejects_path.exists() else []
    assert len(lines_of(report.data_path)) + len(rejected) == len(rows) + 1
    assert all(reject["data"] == rows[reject["row"] - 2] and reject["reason"] for reject in rejected)
    assert not list(folder.glob(".*.tmp"))


def test_a_row_with_half_a_character_is_a_reject_like_any_other(tmp_path: Path) -> None:
    cut = {"conversations": [{"from": "human", "value": "cut \ud83d"}, {"from": "gpt", "value": "a"}]}
    report = prepare_dataset(written(tmp_path, [GOOD, cut, GOOD]), name="set", folder=tmp_path / "out")
    assert (report.rows_kept, report.rows_rejected) == (2, 1)
    [reject] = lines_of(report.rejects_path)
    assert reject["data"] == cut and "half a character" in reject["reason"]


def test_a_row_with_roles_by_other_names_is_rejected_for_what_is_wrong_with_it(tmp_path: Path) -> None:
    turns = [("user", "My line?"), ("assistant", "3 GB."), ("tool", "a result of no call"), ("assistant", "Yes.")]
    good = {"conversations": [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Hello"}]}
    bad = {"conversations": [{"from": role, "value": text} for role, text in turns]}
    source = tmp_path / "rows.json"
    source.write_text(json.dumps([good, bad]))
    report = prepare_dataset(source, name="rows", folder=tmp_path / "out")
    reason = json.loads(report.rejects_path.read_text())["reason"]
    assert "unknown role" not in reason
    assert "turn 3" in reason


def test_an_openai_row_may_end_with_the_user(tmp_path: Path) -> None:
    answered = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}]
    goodbye = {"messages": [*answered, {"role": "user", "content": "bye"}]}
    source = written(tmp_path, [{"messages": answered}, goodbye, {"messages": answered[:1]}])
    report = prepare_dataset(source, name="set", folder=tmp_path / "out")
    assert (report.rows_kept, report.trimmed_turns) == (2, 1)
    first, second = lines_of(report.data_path)
    assert first == second
    (reject,) = lines_of(report.rejects_path)
    assert (reject["row"], reject["reason"]) == (3, "no answer to a human turn is in it: nothing to train on")
