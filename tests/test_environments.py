"""Engines' Pythons: which one is taken, what is in it, and programs that run inside it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from agent_sft.engines.environments import call_inside, engine_python, engine_versions, known_environments
from agent_sft.engines.llamafactory.facts import DISTRIBUTIONS
from agent_sft.errors import UserError, WorkFailed

if TYPE_CHECKING:
    from tests.conftest import RunCli

PYTHON = Path(sys.executable)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return tmp_path / "a program's file.py"


def test_the_variable_names_the_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "python"
    link.symlink_to(PYTHON)
    monkeypatch.setenv("AGENT_SFT_TRAIN_PYTHON", str(link))
    assert engine_python("train") == link


def test_a_variable_that_points_to_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_SFT_TRAIN_PYTHON", "/nowhere/python")
    with pytest.raises(UserError, match="AGENT_SFT_TRAIN_PYTHON: '/nowhere/python'"):
        engine_python("train")


def test_an_unknown_environment_gets_the_nearest_known_one() -> None:
    assert {"core", "train"} <= set(known_environments())
    assert not {"dev", "uv", "train-nvidia"} & set(known_environments())
    with pytest.raises(UserError, match="did you mean 'train'"):
        engine_python("trian")


def test_versions_are_those_of_the_other_python() -> None:
    versions = engine_versions(PYTHON, ["click", "no-such-distribution"])
    assert versions == {"click": version("click"), "no-such-distribution": None}


def test_versions_are_read_where_all_that_is_installed_lies_in_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    place = tmp_path / "lib" / "python3.11" / "site-packages"
    for folder, file in (("Some_Name-1.0.dist-info", "METADATA"), ("old.one-3.egg-info", "PKG-INFO")):
        (place / folder).mkdir(parents=True)
        (place / folder / file).write_text("Metadata-Version: 2.1\nName: x\nVersion: 2.13.0+cpu\n\nVersion: none\n")
    (place / "older-4.egg-info").write_text("Name: older\nVersion: 4\n")
    (place / "some_name").mkdir()
    (place / "code.pth").write_text("import sys\n")
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho \'{"some.name": "asked"}\'\n')
    python.chmod(0o755)
    names = ["some.name", "old-one", "older", "missing"]
    expected = {"some.name": "2.13.0+cpu", "old-one": "2.13.0+cpu", "older": "4", "missing": None}
    assert engine_versions(python, names) == expected
    (place / "elsewhere.pth").write_text("/another/folder\n")
    assert engine_versions(python, names) == {"some.name": "asked"}


def test_an_engine_has_the_versions_that_its_python_tells(train_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    code = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    told = subprocess.run([train_python, "-c", code, *DISTRIBUTIONS], capture_output=True, check=True).stdout
    assert engine_versions(train_python, DISTRIBUTIONS) == json.loads(told)


def test_a_python_that_does_not_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match="does not run: No such file"):
        engine_versions(tmp_path / "python", ["click"])
    with pytest.raises(WorkFailed, match="does not run"):
        engine_versions(Path("/bin/false"), ["click"])


def test_a_result_is_kept_apart_from_what_the_engine_prints(program: Path) -> None:
    program.write_text(
        "import atexit, json, os, sys\n"
        "atexit.register(print, 'a farewell')\n"
        "print('a banner'); os.system('echo from C')\n"
        "value = json.load(sys.stdin)\n"
        "print(json.dumps([sys.argv[1:], value]), file=sys.__stdout__)\n"
        "print('afterwards')\n"
    )
    payload = {"long": "é" * 1_000_000}
    assert call_inside(PYTHON, program, "an argument", program, payload=payload) == [
        ["an argument", str(program)],
        payload,
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import sys\nprint('the reason', file=sys.stderr)\nsys.exit(3)", r"failed \(exit 3\)[^|]*\| the reason"),
        ("raise ValueError('the reason')", r"failed \(exit 1\)(.|\n)*ValueError: the reason"),
        ("import os\nos.kill(os.getpid(), 9)", "ended with signal 9"),
        ("print('not the result')", r"gave no result[^|]*\| not the result"),
    ],
)
def test_a_program_that_fails_shows_the_end_of_its_output(program: Path, source: str, said: str) -> None:
    program.write_text(source)
    with pytest.raises(WorkFailed, match=said):
        call_inside(PYTHON, program)


@pytest.mark.slow
def test_a_program_out_of_time_takes_its_children_along(program: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program.write_text(
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "open(sys.argv[1], 'w').write(f'{os.getpid()} {child.pid}')\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(WorkFailed, match="took longer than 5 s"):
        call_inside(PYTHON, program, pids, timeout=5)
    wait_until_gone(*map(int, pids.read_text().split()))


def test_a_program_dies_with_the_process_that_asked_for_it(program: Path, tmp_path: Path, repo: Path) -> None:
    pid_file = tmp_path / "pid"
    program.write_text(f"import os, time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n")
    asking = (
        "import pathlib, sys\nfrom agent_sft.engines.environments import call_inside\n"
        "call_inside(pathlib.Path(sys.executable), pathlib.Path(sys.argv[1]))\n"
    )
    process = subprocess.Popen([PYTHON, "-c", asking, program], cwd=repo)
    deadline = time.monotonic() + 300
    while not pid_file.exists() or not pid_file.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pid = int(pid_file.read_text())
    assert runs(pid)
    process.kill()
    process.wait()
    wait_until_gone(pid)


def wait_until_gone(*pids: int) -> None:
    """Wait until processes that are to end have ended."""
    deadline = time.monotonic() + 30
    while any(map(runs, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_setup_says_where_an_environment_is_and_what_is_in_it(call_cli: RunCli) -> None:
    done = call_cli("setup", "train", env={"AGENT_SFT_TRAIN_PYTHON": str(PYTHON)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"train: {PYTHON}\n")
    assert "  llamafactory (not installed)\n" in done.stdout
    planned = call_cli("setup", "--dry-run", "train", env={"AGENT_SFT_TRAIN_PYTHON": str(PYTHON)})
    assert planned.stdout == f"train: nothing to do, AGENT_SFT_TRAIN_PYTHON is {PYTHON}\n"


def test_setup_refuses_an_unknown_name(call_cli: RunCli) -> None:
    done = call_cli("setup", "trian")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'train'?" in done.stderr
