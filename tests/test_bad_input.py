"""Wrong input: one clear message, exit 2, no traceback, and nothing written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import RunCli
from tests.support import SMALL

GOOD = {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}
UNUSABLE = {"conversations": [{"from": "human", "value": None}]}


@pytest.fixture(scope="session")
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


def refused(run_cli: RunCli, folder: Path, *args: str, exit_code: int = 2) -> str:
    """Run a command that must be refused; return its message. The folder must stay as it was."""
    before = sorted(folder.rglob("*"))
    done = run_cli("sft", *args, cwd=folder)
    assert done.returncode == exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("rror:") == 1, done.stderr
    assert sorted(folder.rglob("*")) == before
    return done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ('[{"conversations": [}]', "line 1, column"),
        ('[\n{"conversations": []},\n{"conv', "line"),
        ('{"a": 1, "b": {}}', "no conversation (its keys: 'a', 'b')"),
        ("42", ""),
        ('"text"', ""),
        (json.dumps([UNUSABLE, UNUSABLE]), "row"),
        ("[]", ""),
    ],
)
@pytest.mark.parametrize("process", [(), ("--skip-process",)])
def test_data_that_cannot_be_used(
    tmp_path: Path, run_cli: RunCli, train_python: Path, content: str, message: str, process: tuple[str, ...]
) -> None:
    (tmp_path / "data.json").write_text(content)
    assert message in refused(run_cli, tmp_path, "data.json", "--model", "tiny", *process)


def test_no_such_file(tmp_path: Path, run_cli: RunCli) -> None:
    assert "nowhere.json: no such file" in refused(run_cli, tmp_path, "nowhere.json", "--model", "tiny")
    (tmp_path / "folder").mkdir()
    assert "is a folder" in refused(run_cli, tmp_path, "folder", "--model", "tiny")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data.json").write_text(json.dumps([GOOD] * 3))
    return tmp_path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "learning_rte=1"), "did you mean 'learning_rate'"),
        (("--set", "learning_rate"), "not of the form key=value"),
        (("--set", "learning_rate=quick"), "takes a value of type float"),
        (("--template", "qwne"), "did you mean 'qwen'"),
        (("--model", "meta-llama/Llama-3.1-8B-Instruct"), "--template llama3"),
        (("--deepspeed", "nowhere.json"), "nowhere.json: no such file"),
        (("--deepspeed", "data.json"), "data.json"),
        (("--output-dir", "data.json"), "is a file, not a directory"),
        (("--output-dir", "data.json/below"), "is a file, not a directory"),
        (("--dataset-name", "a/b"), "dataset name"),
        (("--dataset-name", ".."), "dataset name"),
        (("--dataset-name", "a,b"), "dataset name"),
        (("--config", "nowhere.yaml"), "nowhere.yaml: no such file"),
        (("--eval-dataset", "nowhere.json"), "nowhere.json: no such file"),
        (("--nnodes", "2"), "--master-port"),
        (("--report-to", "excel"), "excel"),
        (("--epochs", "0"), "--epochs"),
        (("--epochs", "many"), "--epochs"),
        (("--epoch", "3"), "--epochs"),
        (("--finetuning-type", "qlora"), "qlora"),
    ],
)
def test_options_that_cannot_be_meant(
    data: Path, run_cli: RunCli, train_python: Path, options: tuple[str, ...], message: str
) -> None:
    model = () if "--model" in options else ("--model", "tiny")
    told = refused(run_cli, data, "data.json", *model, *options)
    assert message in told
    assert "process:" not in told, "the data was not touched"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"zero_optimization": {"stage": 5}}', "stage"),
        ('{"zero_optimization": {"stage": 2, "overlap_com": false}}', "overlap_comm"),
        ('{"zero_optimization": {"stage": 2}', "line"),
    ],
)
def test_an_invalid_deepspeed_file(data: Path, run_cli: RunCli, train_python: Path, content: str, message: str) -> None:
    (data / "ds.json").write_text(content)
    assert message in refused(run_cli, data, "data.json", "--model", "tiny", "--deepspeed", "ds.json")


def test_rejected_rows_stop_the_run_and_are_listed(tmp_path: Path, run_cli: RunCli, train_python: Path) -> None:
    (tmp_path / "data.json").write_text(json.dumps([GOOD, UNUSABLE, GOOD]))
    done = run_cli("sft", "data.json", "--model", "tiny", "--output-dir", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert "1 row" in done.stderr
    assert "--allow-rejects" in done.stderr
    rejects = [json.loads(line) for line in (tmp_path / "out" / "processed" / "rejects.jsonl").read_text().splitlines()]
    assert [reject["row"] for reject in rejects] == [2]


@pytest.mark.slow
@pytest.mark.parametrize("size", ["8k", "300k"])
def test_a_full_disk(tmp_path: Path, repo: Path, train_python: Path, size: str) -> None:
    # A small file system of its own, mounted where nobody else sees it, as user namespaces allow.
    script = f"""
    mount -t tmpfs -o size={size} tmpfs '{tmp_path}'
    '{sys.executable}' -P -m agent_sft sft '{SMALL}' --model tiny --output-dir '{tmp_path}/out' || echo "exit $?"
    find '{tmp_path}' -mindepth 1
    """
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-euc", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "exit 2\n", done.stdout + done.stderr
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr


READERS = {
    "process": "data process {data} --output {out}/a.jsonl",
    "prepare": "prepare --input {data} --output-dir {out}/a",
    "merge": "merge --input {data} --output {out}/a.json",
    "stats": "data stats {data} --html {out}/a.html",
    "push": "data push {data} --name a --version 0.1.0 --store {out}/a",
}
"""Commands that read data and write something."""


@pytest.mark.parametrize("command", READERS)
def test_a_place_that_cannot_be_written(tmp_path: Path, command: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    asked = READERS[command].format(data=SMALL, out=out)
    script = f"mount -t tmpfs -o ro tmpfs '{out}'; '{sys.executable}' -P -m agent_sft {asked} || echo \"exit $?\""
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-euc", script], capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("exit 2\n"), done.stdout + done.stderr
    assert "cannot be written: Read-only file system" in done.stderr and "Traceback" not in done.stderr
    assert not list(out.iterdir())


@pytest.mark.parametrize("command", READERS)
def test_a_file_that_may_not_be_read(tmp_path: Path, command: str) -> None:
    data = tmp_path / "data.json"
    data.write_text(json.dumps([GOOD]))
    data.chmod(0)
    before = sorted(tmp_path.rglob("*"))
    asked = READERS[command].format(data=data, out=tmp_path)
    # A user namespace without a mapping: nobody in particular, also where the tests run as root.
    done = subprocess.run(
        ["unshare", "--user", sys.executable, "-P", "-m", "agent_sft", *asked.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Permission denied" in done.stderr or "not readable" in done.stderr
    assert str(data) in done.stderr and "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_no_command_named_like_that(tmp_path: Path, run_cli: RunCli) -> None:
    done = run_cli("sfft", str(SMALL), cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'sft'" in done.stderr
