"""Files of rows: a JSON array or JSON lines, and what is said of those that are neither."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_sft.data.reading import open_rows, read_rows
from agent_sft.errors import UserError

ROW = {"conversations": [{"from": "human", "value": "žluť 🙂 \u2028 end"}]}


def rows_of(tmp_path: Path, content: bytes | str) -> list[tuple[int, Any]]:
    path = tmp_path / "data.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_rows(path))


def refused(tmp_path: Path, content: bytes | str) -> str:
    with pytest.raises(UserError) as caught:
        rows_of(tmp_path, content)
    return str(caught.value)


def test_an_array_is_read_with_row_numbers_from_one(tmp_path: Path) -> None:
    text = json.dumps([ROW, None, {"x": 1}], ensure_ascii=False, indent=1)
    assert rows_of(tmp_path, text) == [(1, ROW), (2, None), (3, {"x": 1})]
    assert open_rows(tmp_path / "data.json").layout == "array"


def test_json_lines_are_recognised_whatever_the_name(tmp_path: Path) -> None:
    line = json.dumps(ROW, ensure_ascii=False)
    assert rows_of(tmp_path, f"\n{line}\r\n\nnull\n{line}") == [(1, ROW), (2, None), (3, ROW)]
    assert open_rows(tmp_path / "data.json").layout == "lines"


def test_one_conversation_alone_is_one_row_on_one_line_or_many(tmp_path: Path) -> None:
    assert rows_of(tmp_path, json.dumps(ROW)) == [(1, ROW)]
    assert rows_of(tmp_path, json.dumps(ROW, indent=2)) == [(1, ROW)]


@pytest.mark.parametrize("dump", [lambda rows: json.dumps(rows), lambda rows: "\n".join(map(json.dumps, rows))])
def test_a_byte_order_mark_is_accepted(tmp_path: Path, dump: Any) -> None:
    assert rows_of(tmp_path, b"\xef\xbb\xbf" + dump([ROW, ROW]).encode()) == [(1, ROW), (2, ROW)]


def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(json.dumps([ROW])))
    writer.start()
    assert list(read_rows(pipe)) == [(1, ROW)]
    writer.join()


def test_no_such_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        list(read_rows(tmp_path / "nowhere.json"))
    with pytest.raises(UserError, match="is a folder, not a file"):
        list(read_rows(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("  \n\t\n", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        ("[]", "the array holds no rows"),
        ("42", "holds a number instead of conversations"),
        ('"text"', "holds a text instead"),
        ("null", "holds null instead"),
        ("[1, 2]", "an array whose first element is a number"),
        ("[[{}]]", "an array whose first element is an array"),
        ('{"data": [], "version": 1}', "no conversation (its keys: 'data', 'version')"),
        ('{\n "data": []\n}\n', "no conversation (its keys: 'data')"),
        ("id,text\n1,hi\n", "line 1, column 1: not JSON"),
        ('[\n{"a": 1}\n{"b": 2}]', "line 3, column 1: not JSON"),
        ('\n\n[\n{"a": tru}]', "line 4, column 7: not JSON"),
        ('[{"é": "ü",}]', "line 1, column 11: not JSON"),
        ('{"a": 1}\n\n{"b": 1\n{"c": 1}', "line 3, column 8: the JSON object is cut off: the line ends"),
        ('{"a": 1}\n{"b": 1}}\n', "line 2, column 9: not JSON"),
        ('[{"a": 1}, {"b": "te', "line 1, column 21: the JSON array is cut off"),
        ('[{"a": 1},\n', "line 2, column 1: the JSON array is cut off"),
        ('{"a": 1}\n{"b": [1, ', "line 2, column 10: the JSON object is cut off"),
        (b'[{"a": 1},\n{"b": "\xff"}]', "line 2: is not UTF-8 text: byte 0xff"),
        (b'{"a": 1}\n{"b": "\xe9t\xe9"}\n', "line 2: is not UTF-8 text: byte 0xe9"),
        ('[{"a": 1}]'.encode("utf-16"), "line 1: is not UTF-8 text"),
    ],
)
def test_what_cannot_be_read_says_what_and_where(tmp_path: Path, content: bytes | str, message: str) -> None:
    assert message in refused(tmp_path, content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(rows=st.lists(JSON, max_size=5), indent=st.sampled_from([None, 1]))
@pytest.mark.slow
def test_both_layouts_give_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], indent: int | None
) -> None:
    rows = [ROW, *rows]
    path = tmp_path_factory.mktemp("rows") / "data"
    path.write_text(json.dumps(rows, indent=indent))
    as_array = list(read_rows(path))
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8", newline="")
    assert list(read_rows(path)) == as_array == list(enumerate(rows, start=1))


@pytest.mark.parametrize("layout", ["array", "lines"])
def test_half_a_character_does_not_cost_the_rows_around_it(tmp_path: Path, layout: str) -> None:
    rows = [{"conversations": [{"from": "human", "value": text}]} for text in ("a", "cut \ud83d", "b")]
    path = tmp_path / "data.json"
    path.write_text(json.dumps(rows) if layout == "array" else "".join(f"{json.dumps(row)}\n" for row in rows))
    assert list(read_rows(path)) == list(enumerate(rows, start=1))
