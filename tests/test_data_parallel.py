"""Large files in several processes: the same files, the same errors, and nothing left running."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from agent_sft.data.blocks import Block
from tests.support import heed_interrupts

IMPORTS = """
import io, json, os, sys, traceback
from pathlib import Path
from agent_sft.data import blocks, elements, parallel, reading
from agent_sft.data.ahead import Ahead
from agent_sft.data.pipeline import load_pipeline
from agent_sft.data.preparing import prepare_dataset
from agent_sft.data.processing import process_data
from agent_sft.errors import UserError
"""
PROGRAM = """
how, source, pipeline, place = sys.argv[1], *map(Path, sys.argv[2:])
os.environ["MAIN"] = str(os.getpid())
parallel.LARGE, parallel.cpus = (0, lambda: 2) if how == "several" else (1 << 60, lambda: 1)
for module in (blocks, elements, reading):
    module.BLOCK = 4000
trails = io.BytesIO()
try:
    ahead, pipeline, out = Ahead("d", "qwen"), load_pipeline(pipeline), place / "out.jsonl"
    processed = process_data(source, pipeline, output=out, trail=trails, ahead=ahead)
    prepared = prepare_dataset(processed.output, name="d", folder=place / "data", form="openai")
    ahead = prepare_dataset(processed.output, name="d", folder=place / "ahead", form="openai", ahead=ahead)
    assert vars(ahead) == vars(prepared) | {key: getattr(ahead, key) for key in vars(ahead) if key.endswith("_path")}
    prepare_dataset(source, name="raw", folder=place / "raw", trail=trails)
except UserError as error:
    print(error)
else:
    for line in [*processed.lines(), *prepared.lines(), *trails.getvalue().decode().splitlines()]:
        print(line.replace(str(place), ""))
"""
STARTER = """
for line in sys.stdin:
    order = json.loads(line)
    if (pid := os.fork()) == 0:
        status = 1
        os.dup2(os.open(order["log"], os.O_WRONLY | os.O_CREAT), 1)
        os.environ.update(order["environment"])
        sys.argv[1:] = order["arguments"]
        try:
            exec(order["program"], {**globals()})
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    print(os.waitpid(pid, 0)[1], flush=True)
"""
"""Runs programs one after the other, each in a process of its own that is forked when all is imported."""

PLAIN = "transforms: [fix_arguments, check_tools, merge_turns, trim_trailing]"
OWN = """
import os, signal, time
from agent_sft.data.transforms import RowTransform

class Mark(RowTransform):
    name = "mark"
    row_by_row = True

    def change(self, row):
        metadata = row.get("metadata", {})
        if metadata.get("id") == "wrong":
            raise KeyError("what")
        if os.environ.get("DIES") and os.environ["MAIN"] != str(os.getpid()):
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("SLOW"):
            time.sleep(0.05)
        here = "other" if os.environ["MAIN"] != str(os.getpid()) else "main"
        return {**row, "metadata": {**metadata, **({"by": here} if os.environ.get("TELL") else {})}}

class Count(RowTransform):
    name = "count"

    def __init__(self):
        self.seen = 0

    def change(self, row):
        self.seen += 1
        return {**row, "metadata": {"number": self.seen}}
"""


def conversation(number: int, **further: Any) -> dict[str, Any]:
    call = f'<tool_call>\n{{"name": "look", "arguments": {{"id": {number}}}}}\n</tool_call>'
    said = [("human", f"é {number}"), ("gpt", "let me look"), ("gpt", call), ("human", "{}"), ("gpt", "done")]
    return {"id": f"n{number}", "conversations": [{"from": role, "value": text} for role, text in said], **further}


def many() -> list[Any]:
    rows: list[Any] = [conversation(number) for number in range(300)]
    rows[60]["conversations"][0]["value"] = "cut \ud800"
    rows[70]["conversations"] = []
    rows[71]["conversations"].append({"from": "human", "value": "bye"})
    rows[80]["more"] = 10**30
    rows[200]["conversations"][1]["from"] = "nobody"
    return rows


def write(path: Path, rows: list[Any], layout: str, instead: dict[int, str]) -> None:
    indent = 2 if layout == "array" else None
    texts = [instead.get(number, json.dumps(row, indent=indent)) for number, row in enumerate(rows)]
    path.write_text("[\n" + ",\n".join(texts) + "\n]\n" if layout == "array" else "\n".join(texts) + "\n")


class Run(Protocol):
    """Runs the program; returns what it says and the files that it makes."""

    def __call__(
        self, how: str, source: Path, pipeline: str, place: Path, **environment: str
    ) -> tuple[str, dict[str, bytes]]: ...


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run the program as often as is asked for, with all that it imports imported once."""
    command = [sys.executable, "-c", IMPORTS + STARTER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdin is not None and starter.stdout is not None
        given, told = starter.stdin, starter.stdout

        def one(how: str, source: Path, pipeline: str, place: Path, **environment: str) -> tuple[str, dict[str, bytes]]:
            place.mkdir()
            (source.parent / "own.py").write_text(OWN)
            (source.parent / "pipeline.yaml").write_text(pipeline)
            log = place.with_name(f"{place.name}.log")
            arguments = [how, str(source), str(source.parent / "pipeline.yaml"), str(place)]
            order = {"program": PROGRAM, "arguments": arguments, "environment": environment, "log": str(log)}
            given.write(f"{json.dumps(order)}\n")
            given.flush()
            assert told.readline() == "0\n"
            files = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
            return log.read_text(), {name: text.replace(str(place).encode(), b"") for name, text in files.items()}

        yield one
        given.close()


NESTED = json.dumps(conversation(1, more=[{"id": 1}, {"id": 2}]), indent=2).replace('{\n      "id"', '{\n  "id"')
ODD_TEXTS = {
    "nothing": {},
    "a key twice": {150: '{"id": 1, "id": 2, "conversations": []}'},
    "cut off": {150: '{\n  "id": "x", "conversations": ['},
    "objects inside that begin as rows do": {100: NESTED, 150: NESTED},
    "other values": {100: "7", 101: "null"},
    "blank lines": {100: "\n" + json.dumps(conversation(5))},
}


@pytest.mark.parametrize("layout", ["array", "lines"])
@pytest.mark.parametrize("name", ODD_TEXTS)
@pytest.mark.slow
def test_several_processes_make_what_one_makes(run: Run, layout: str, name: str, tmp_path: Path) -> None:
    instead = ODD_TEXTS[name]
    if layout == "lines":
        instead = {number: text if text[0] == "\n" else text.replace("\n", "") for number, text in instead.items()}
    write(tmp_path / "rows.json", many(), layout, instead)
    one = run("one", tmp_path / "rows.json", PLAIN, tmp_path / "one")
    several = run("several", tmp_path / "rows.json", PLAIN, tmp_path / "several")
    for _, files in (one, several):
        ahead = {name.removeprefix("ahead/"): text for name, text in files.items() if name.startswith("ahead/")}
        assert ahead == {name.removeprefix("data/"): text for name, text in files.items() if name.startswith("data/")}
    assert several == one
    assert "300 rows" in one[0] or "row" in one[0]


@pytest.mark.parametrize("shape", ["blank lines before", "one line", "packed"])
def test_an_error_is_told_with_its_place_behind_rows_that_others_read(run: Run, shape: str, tmp_path: Path) -> None:
    source = tmp_path / "rows.json"
    write(source, many(), "array", {150: '{"id": 1,\n "é": "\u00e9", "id": 2}'})
    content = source.read_bytes()
    if shape == "one line":
        source.write_bytes(content.replace(b"\n", b""))
    else:
        source.write_bytes(b"\xef\xbb\xbf\n  \n" + content if shape == "blank lines before" else gzip.compress(content))
    one = run("one", source, PLAIN, tmp_path / "one")
    assert "row 151, line " in one[0]
    assert run("several", source, PLAIN, tmp_path / "several") == one


def test_transforms_of_ones_own_work_there_when_they_say_that_they_can(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "rows.json", many(), "array", {})
    pipeline = "transforms: ['own.py:Mark', merge_turns]"
    one = run("one", tmp_path / "rows.json", pipeline, tmp_path / "one")
    assert run("several", tmp_path / "rows.json", pipeline, tmp_path / "several") == one
    told = run("several", tmp_path / "rows.json", pipeline, tmp_path / "told", TELL="1")[1]["out.jsonl"]
    assert told.count(b'"by":"other"') > 200
    counting = run("several", tmp_path / "rows.json", "transforms: ['own.py:Count']", tmp_path / "counting")
    numbers = [json.loads(line)["metadata"]["number"] for line in counting[1]["out.jsonl"].splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_rows_that_are_compared_with_others_are_so_in_one_process(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "rows.json", [conversation(number % 7) for number in range(300)], "lines", {})
    said, files = run("several", tmp_path / "rows.json", "transforms: [merge_turns, dedup]", tmp_path / "out")
    assert len(files["out.jsonl"].splitlines()) == 7
    assert "293 left out" in said


def test_a_transform_that_fails_is_told_with_its_row(run: Run, tmp_path: Path) -> None:
    rows = [*map(conversation, range(300)), {**conversation(1), "id": "wrong"}]
    write(tmp_path / "rows.json", rows, "array", {})
    said, files = run("several", tmp_path / "rows.json", "transforms: ['own.py:Mark']", tmp_path / "out")
    assert "the transform raised KeyError: 'what'" in said
    assert "row 301" in said
    assert not files


def test_a_process_that_dies_loses_nothing(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "rows.json", many(), "array", {})
    pipeline = "transforms: ['own.py:Mark']"
    one = run("one", tmp_path / "rows.json", pipeline, tmp_path / "one")
    assert run("several", tmp_path / "rows.json", pipeline, tmp_path / "several", DIES="1") == one


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.slow
def test_the_others_end_with_the_one_that_started_them(how: int, tmp_path: Path) -> None:
    write(tmp_path / "rows.json", [conversation(number) for number in range(3000)], "lines", {})
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "p.yaml").write_text("transforms: ['own.py:Mark']")
    arguments = [str(tmp_path / name) for name in ("rows.json", "p.yaml", "out")]
    command = [sys.executable, "-c", IMPORTS + PROGRAM, "several", *arguments]
    with subprocess.Popen(
        command, env={**os.environ, "SLOW": "1"}, stderr=subprocess.DEVNULL, preexec_fn=heed_interrupts
    ) as running:
        process = psutil.Process(running.pid)
        deadline = time.monotonic() + 60
        while len(others := process.children()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        running.send_signal(how)
        running.wait(60)
        _, alive = psutil.wait_procs(others, timeout=30)
        assert not alive


def test_a_stretch_cut_wrongly_is_not_taken_for_rows() -> None:
    def block(data: bytes) -> Block:
        starts = tuple(found.start() for found in re.finditer(rb'{"id"', data))
        return Block(data, 5, len(starts), starts, None)

    assert [row["id"] for _, row in block(b', {"id": 1}, {"id": 2}').rows()] == [1, 2]
    apart = b', {"id": 1},' + b" " * 300 + b'{"id": 2}'
    for data in (b', {"id": 1} {"id": 2}', b', {"id": [{"id": 1}]}, {"id": 2}', b', {"id": 1}, 7, {"id": 2}', apart):
        with pytest.raises(ValueError):
            list(block(data).rows())
    with pytest.raises(ValueError):
        Block(b"1\n2\n", 5, 3, None, None).texts()
