"""`inside/fork_server.py`: what is forked does as what is started, and nothing of it outlives who asked for it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import psutil
import pytest

from agent_sft.engines.forks.sharing import FORKS
from agent_sft.engines.llamafactory.launch import SHARED
from agent_sft.sweep.forking import ENGINES
from tests.forks import started
from tests.serving import all_gone, family_of

PROGRAM = """
import os, sys
ENGINE = "llamafactory" in sys.modules
import subprocess, time
from beside import WORD
if sys.argv[1:] == ["wait"]:
    subprocess.Popen(["sleep", "600"])
    open("pid", "w").write(str(os.getpid()))
    time.sleep(600)
print(ENGINE, WORD, sys.argv[1:], os.getcwd(), os.environ.get("AGENT_SFT_WORD"), end=" ")
print(sys.modules["torch"].get_num_threads() if ENGINE else "")
sys.exit("a reason")
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("WORD = 'beside'")
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, train_python: Path) -> Iterator[Path]:
    """The socket of a server of this file's own."""
    (engine,) = (one for one in ENGINES if one.shared == SHARED)
    with started(engine, tmp_path_factory.mktemp("server" * 20)) as place:
        while not place.exists():
            time.sleep(0.01)
        yield place


def command(python: Path, program: Path, place: Path, *words: str) -> list[str]:
    with mock.patch.dict(os.environ, {FORKS: str(place.parent)}):
        return SHARED.forked([str(python), str(program), *words])


def said(python: Path, program: Path, place: Path, **changes: str) -> str:
    """Run the program; return what it printed, once it has ended as it should."""
    done = subprocess.run(
        command(python, program, place, "a b", "c"),
        cwd=program.parent,
        env={**os.environ, **changes},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "a reason\n")
    return done.stdout.rstrip()


def test_without_a_server_a_command_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FORKS, raising=False)
    assert SHARED.forked(["python", "train.py", "a"]) == ["python", "train.py", "a"]


@pytest.mark.slow
def test_a_program_is_forked_where_importing_would_have_been_the_same(
    program: Path, server: Path, train_python: Path
) -> None:
    rest = f"beside ['a b', 'c'] {program.parent}"
    assert said(train_python, program, server, AGENT_SFT_WORD="x") == f"True {rest} x 1"
    assert said(train_python, program, server, OMP_NUM_THREADS="2") == f"True {rest} None 2", "torch is told"
    assert said(train_python, program, server, HF_HOME="elsewhere") == f"False {rest} None"
    assert said(train_python, program, program) == f"False {rest} None"


def waiting(program: Path, place: Path, python: Path) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """Start the program; return its client, and it with the process that it started."""
    client = subprocess.Popen(
        command(python, program, place, "wait"),
        cwd=program.parent,
        env=None,
        start_new_session=True,
    )
    pid = program.with_name("pid")
    while not pid.exists() or not pid.read_text():
        assert client.poll() is None
        time.sleep(0.01)
    forked_one = psutil.Process(int(pid.read_text()))
    assert forked_one.pid != client.pid
    return client, [forked_one, *family_of(forked_one.pid)]


@pytest.mark.slow
def test_what_was_forked_ends_with_who_asked_for_it(program: Path, server: Path, train_python: Path) -> None:
    client, family = waiting(program, server, train_python)
    assert len(family) == 2
    client.kill()
    assert all_gone(family)
    client.wait()
    assert said(train_python, program, server).startswith("True")


@pytest.mark.slow
def test_what_was_forked_ends_with_the_server(program: Path, server: Path, train_python: Path) -> None:
    client, family = waiting(program, server, train_python)
    parent = family[0].parent()
    assert parent is not None
    parent.kill()
    assert client.wait(60) == 137
    assert all_gone(family)
    assert said(train_python, program, server).startswith("False"), "programs are started by themselves again"
