"""What data is read from: any size in little memory, packed, several at once; and what is not let in."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agent_sft.cli.prepare import command as prepare_command
from agent_sft.data import compressed, elements, reading
from agent_sft.data.reading import open_rows, read_rows
from agent_sft.data.sources import open_sources
from agent_sft.errors import UserError
from tests.conftest import RunCli

ROW = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}


@pytest.fixture(scope="session")
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


def rows_of(path: Path | str) -> list[tuple[str, int, Any]]:
    return [(Path(origin.file).name, origin.row, row) for one in open_sources([path]) for origin, row in one.rows()]


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_packed_files_are_read_whatever_their_name(tmp_path: Path, pack: Any) -> None:
    lines = b"\n".join(json.dumps({**ROW, "n": n}).encode() for n in range(3))
    array = json.dumps([{**ROW, "n": n} for n in range(3)], indent=1).encode()
    for content in (pack(lines), pack(array), pack(lines + b"\n") + pack(lines)):
        read = rows_of(written(tmp_path, "data.json", content))
        assert [row["n"] for _, _, row in read[:3]] == [0, 1, 2]


def test_several_files_and_globs_are_read_in_order_and_once(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.txt"):
        written(tmp_path, name, json.dumps({**ROW, "name": name}).encode())
    names = [source.name for source in open_sources([tmp_path / "c.txt", f"{tmp_path}/*.jsonl", tmp_path / "a.jsonl"])]
    assert [Path(name).name for name in names] == ["c.txt", "a.jsonl", "b.jsonl"]
    odd = written(tmp_path, "[1].jsonl", json.dumps(ROW).encode())
    assert rows_of(odd)[0][:2] == ("[1].jsonl", 1), "a file's own name is no glob"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("*.nothing", "no file has such a name"),
        ("nowhere.json", "no such file"),
        ("someone/their-data", "write hf:someone/their-data"),
        ("hf:someone/their-data", "is read by the train environment"),
    ],
)
def test_a_source_that_is_not_there_is_told(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rows_of(name)
    with pytest.raises(UserError, match="no data was given"):
        open_sources([])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"a": 1},\n {"b": NaN}]', "row 2, line 2, column 8: not JSON: JSON has no NaN"),
        (b'{"a": NaN}\n{"b": 1}\n', "row 1, line 1, column 7: not JSON: JSON has no NaN"),
        (b'{"a": "\xff"}\n{"b": 1}\n', "row 1, line 1: is not UTF-8 text: byte 0xff"),
        (b'{"a": {"b": NaN},\n "c": 1}', "data.json, line 1, column 13: not JSON: JSON has no NaN"),
        (b'{"a": 1}\n{"b": -Infinity}\n', "row 2, line 2, column 8: not JSON: JSON has no Infinity"),
        (b'[{"a": 1},\n {"b": 1, "c": {"d": 1, "d": 2}}]', "row 2, line 2, column 2: holds an object with the key 'd'"),
        (b'{"a": 1}\n{"b": 1, "b" : 1}', "row 2, line 2: holds an object with the key 'b' twice"),
        (b'{"a": 1}\n{"b": "\xff"}\n', "row 2, line 2: is not UTF-8 text: byte 0xff"),
        (b'[{"a": 1},\n {"b": "\xff"}]', "row 2, line 2: is not UTF-8 text: byte 0xff"),
        (b'[{"a": 1},\n {"b": 1', "row 2, line 2, column 9: the JSON array is cut off"),
        (b'[{"a": 1}, 1 2]', "line 1, column 14: not JSON: Expecting ',' delimiter"),
        (b'[{"a": 1}] x', "line 1, column 12: not JSON: Extra data"),
        (b'{"simulations": [{"a": 1}, {"b": ]}', "not JSON"),
        (b'{"simulations": [{"a": 1}', "the JSON array is cut off"),
        (gzip.compress(b'{"a": 1}\n' * 9, mtime=0)[:-4], "is damaged"),
        (zstandard.compress(b'{"a": 1}\n' * 9)[:-4], "is cut off|is damaged|the file is empty"),
    ],
)  # fmt: skip
def test_what_is_no_sound_data_is_refused_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        rows_of(written(tmp_path, "data.json", content))


@pytest.mark.parametrize("shape", ["{line}", "[{line}]", "[{row}, {line}]", "{row}\n{line}\n"])
@pytest.mark.slow
def test_a_row_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (elements, reading):
        monkeypatch.setattr(module, "MAX_ROW_BYTES", 4 << 20)
    long = json.dumps({"conversations": [{"from": "human", "value": "x" * (40 << 20)}]})
    content = shape.replace("{row}", json.dumps(ROW)).replace("{line}", long)
    with pytest.raises(UserError, match="is longer than 4 MB"):
        rows_of(written(tmp_path, "data.json", content.encode()))


@pytest.mark.slow
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_bomb_is_stopped(tmp_path: Path, pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "FREE_BYTES", 1 << 20)
    bomb = pack(b'{"a": 1}\n' * 2_000_000)
    with pytest.raises(UserError, match="unpacks to more than 200 times its size"):
        rows_of(written(tmp_path, "data.json", bomb))


def test_large_integers_stay_what_they_are(tmp_path: Path) -> None:
    large = {**ROW, "n": 123456789012345678901234567890}
    assert rows_of(written(tmp_path, "a.json", json.dumps([large, large]).encode()))[1][2] == large
    assert rows_of(written(tmp_path, "b.json", json.dumps(large).encode()))[0][2] == large


VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.text('a"{}[],:\\ é', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"{:', max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(
    rows=st.lists(VALUES, max_size=6),
    indent=st.sampled_from([None, 2]),
    separators=st.sampled_from([(",", ":"), (", ", " : ")]),
    chunk=st.integers(1, 40),
)
def test_arrays_are_taken_apart_as_they_were_put_together_however_they_arrive(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], indent: int | None, separators: Any, chunk: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "array.json"
    path.write_text(json.dumps([{"a": 1}, *rows], indent=indent, separators=separators))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elements, "CHUNK", chunk)
        patch.setattr(reading, "CHUNK", chunk)
        assert [row for _, row in read_rows(path)] == [{"a": 1}, *rows]


PEAK = """
import resource, sys
from pathlib import Path
from agent_sft.data.reading import read_rows
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in read_rows(Path(sys.argv[1])))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["array", "indented", "lines"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "data.json"
    rows = [{**ROW, "n": n, "text": "x" * 2000} for n in range(20_000)]
    if layout == "lines":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        path.write_text(json.dumps(rows, indent=2 if layout == "indented" else None))
    done = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True)
    count, kilobytes = map(int, done.stdout.split())
    assert count == 20_000
    assert path.stat().st_size > 40_000_000
    assert kilobytes < 12_000, "a few chunks"


PARQUET = """
import sys, pyarrow as pa, pyarrow.parquet as pq
turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
pq.write_table(pa.table({"conversations": [turns] * 3, "n": [1, 2, 3]}), sys.argv[1] + "/good.parquet")
pq.write_table(pa.table({"text": ["x"], "label": [1]}), sys.argv[1] + "/wrong.parquet")
open(sys.argv[1] + "/damaged.parquet", "wb").write(open(sys.argv[1] + "/good.parquet", "rb").read()[:-60])
"""


@pytest.mark.slow
def test_parquet_and_what_datasets_loads_are_read_in_the_train_environment(
    train_python: Path, tmp_path: Path, run_cli: RunCli
) -> None:
    subprocess.run([train_python, "-c", PARQUET, tmp_path], check=True)
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps({**ROW, "n": n}) + "\n" for n in range(2)))
    given = ["--input", tmp_path / "good.parquet", "--input", f"hf:{folder}", "--output-dir", tmp_path / "out"]
    env = {"HF_HOME": str(tmp_path / "hf")}
    done = run_cli("prepare", *given, env=env)
    assert done.returncode == 0, done.stderr
    assert "5 rows, 5 usable, 0 rejected" in done.stdout
    assert len((tmp_path / "out" / "tau2_sft.jsonl").read_text().splitlines()) == 5
    for name, message in (("wrong", "their keys: 'text', 'label'"), ("damaged", "cannot be read")):
        done = run_cli("prepare", "--input", tmp_path / f"{name}.parquet", "--output-dir", tmp_path / "no")
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    done = run_cli("prepare", "--input", f"hf:{folder}:nothing", "--output-dir", tmp_path / "no", env=env)
    assert (done.returncode, "cannot be read" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "no").exists()


def test_the_command_takes_every_format_and_says_which(tmp_path: Path, run_cli: RunCli) -> None:
    chat = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    path = written(tmp_path, "chat.jsonl", json.dumps(chat).encode())
    done = run_cli("prepare", "--input", path, "--output-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "read as OpenAI chat rows, recognised from the rows" in done.stdout
    [line] = (tmp_path / "out" / "tau2_sft.jsonl").read_text().splitlines()
    assert json.loads(line)["conversations"] == ROW["conversations"]
    done = run_cli("prepare", "--input", path, "--output-dir", tmp_path / "no", "--format", "sharegtp")
    assert done.returncode == 2
    assert "did you mean 'sharegpt'" in done.stderr
    assert open_rows(path).layout == "lines"
    assert {"form", "min_reward"} <= {parameter.name for parameter in prepare_command.params}
