"""`scripts/env.sh` in a clone with a requirement of its own: made once, safe to kill, instant when there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support import heed_interrupts

Finished = subprocess.CompletedProcess[str]


def make_wheel(folder: Path, name: str, version: str) -> None:
    """Write a wheel of one module, which knows its version."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        # Versions of different lengths: Python tells a stale .pyc by time, to a second, and size.
        wheel.writestr(f"{name}.py", f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


class Clone:
    """A clone with small environments, and a uv that notes what it is asked before it does it."""

    def __init__(self, repo: Path, folder: Path, uv: Path) -> None:
        self.root = folder / 'a "clone" of $HOME, it\'s é'
        (self.root / "scripts").mkdir(parents=True)
        shutil.copy(repo / "scripts" / "env.sh", self.root / "scripts")
        self.asked = folder / "asked"
        self.asked.touch()
        wheels = folder / "wheels"
        wheels.mkdir()
        index = folder / "index"
        index.mkdir()
        for name, version in (("tiny", "1.0"), ("tiny", "20.0"), ("torch", "2.13.0"), ("torch", "2.13.0+cpu")):
            make_wheel(wheels, name, version)
        noting = folder / "bin" / "uv"
        noting.parent.mkdir()
        noting.write_text(
            f"#!/bin/bash\necho \"$@\" >>'{self.asked}'\n"
            # A pause that starts no process of its own.
            'if [[ $1 == "${PAUSE_BEFORE-}" ]]; then read -rt "$PAUSE_SECONDS" <> <(:) || true; fi\n'
            f"exec '{uv}' \"$@\"\n"
        )
        noting.chmod(0o755)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_SFT_")}
        self.env |= {
            "PATH": f"{noting.parent}:{self.env['PATH']}",
            "PIP_FIND_LINKS": str(wheels),
            # An index without packages, and a cache of its own: nothing of the real world gets in or out.
            "PIP_INDEX_URL": index.as_uri(),
            "UV_CACHE_DIR": str(folder / "cache"),
        }
        for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"):
            self.env.pop(name, None)
        self.require("uv", "uv==0.0")
        self.require("core", "tiny==1.0")
        self.require("dev", "tiny==1.0\ntorch==2.13.0")
        self.require("train", "tiny==1.0\ntorch==2.13.0")
        self.require("train-nvidia", "tiny==20.0\ntorch==2.13.0")

    def require(self, name: str, requirements: str) -> None:
        """Write a requirements file."""
        path = self.root / "requirements" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(requirements + "\n")

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """Start `scripts/env.sh WORDS` in a process group of its own."""
        command = ["bash", str(self.root / "scripts" / "env.sh"), *words]
        return subprocess.Popen(
            command,
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=heed_interrupts,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, **env: str) -> Finished:
        """Run `scripts/env.sh WORDS` to its end."""
        process = self.start(*words, **env)
        output, errors = process.communicate(timeout=600)
        return subprocess.CompletedProcess(words, process.returncode, output, errors)

    def wait_until_asked(self, word: str) -> None:
        """Wait until uv was started with this command."""
        deadline = time.monotonic() + 300
        while word not in {line.split()[0] for line in self.asked.read_text().splitlines()}:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def times_installed(self) -> int:
        """Return how many times uv was asked to install."""
        return self.asked.read_text().count("pip sync")

    def version(self, module: str, environment: str = ".venv") -> str:
        """Return the version of what is installed; fails if that does not work."""
        python = self.root / environment / "bin" / "python"
        program = f"import {module}; print({module}.version)"
        return subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def uv(repo: Path) -> Path:
    found = shutil.which("uv")
    if found:
        return Path(found)
    done = subprocess.run(["bash", repo / "scripts" / "env.sh", "uv"], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip()).with_name("uv")


@pytest.fixture
def clone(repo: Path, tmp_path: Path, uv: Path) -> Clone:
    return Clone(repo, tmp_path, uv)


def test_made_from_nothing_it_prints_its_python_and_says_what_it_does(clone: Clone) -> None:
    done = clone.run("core")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{clone.root}/.venv/bin/python\n"
    assert "making the core environment" in done.stderr
    assert clone.version("tiny") == "1.0"


def test_made_again_nothing_is_run(clone: Clone) -> None:
    clone.run("core", "train")
    assert clone.times_installed() == 2
    clone.asked.write_text("")
    again = clone.run("core", "train")
    assert (again.returncode, again.stderr) == (0, "")
    assert clone.asked.read_text() == ""


@pytest.mark.slow
def test_the_package_is_importable_and_its_command_runs_from_anywhere(clone: Clone, repo: Path, tmp_path: Path) -> None:
    shutil.copytree(repo / "agent_sft", clone.root / "agent_sft")
    clone.run("core")
    python = clone.root / ".venv" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", "import agent_sft; print(agent_sft.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{clone.root}/agent_sft/__init__.py\n"
    # A file called like a module that the package imports must not be taken for it.
    (tmp_path / "importlib.py").write_text("raise SystemExit('the wrong importlib')\n")
    (tmp_path / "link").symlink_to(clone.root / ".venv" / "bin" / "agent-sft")
    done = subprocess.run(["./link", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    # This small environment holds no click: that it is missed shows that our main was reached.
    assert "No module named 'click'" in done.stderr


@pytest.mark.slow
def test_changed_requirements_are_installed(clone: Clone) -> None:
    clone.run("core")
    clone.require("core", "tiny==20.0")
    assert clone.run("--check", "core").returncode == 1
    assert clone.run("core").returncode == 0
    assert clone.version("tiny") == "20.0"
    assert clone.run("--check", "core").returncode == 0


@pytest.mark.slow
def test_test_tools_are_kept_when_only_core_is_asked_for(clone: Clone) -> None:
    clone.run("core")
    clone.run("dev")
    assert clone.run("core").stderr == ""
    clone.require("dev", "tiny==20.0\ntorch==2.13.0")
    assert clone.run("core").returncode == 0
    assert (clone.version("tiny"), clone.version("torch")[:6]) == ("20.0", "2.13.0")


def test_moved_with_its_clone_it_is_made_anew(clone: Clone) -> None:
    clone.run("core")
    moved = clone.root.with_name("moved")
    clone.root.rename(moved)
    clone.root = moved
    assert clone.run("core").returncode == 0
    assert clone.times_installed() == 2
    assert clone.version("tiny") == "1.0"


@pytest.mark.parametrize("moment", ["venv", "pip"])
def test_killed_in_the_middle_it_is_made_by_the_next_call(clone: Clone, moment: str) -> None:
    process = clone.start("core", PAUSE_BEFORE=moment, PAUSE_SECONDS="60")
    clone.wait_until_asked(moment)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert clone.run("--check", "core").returncode == 1
    done = clone.run("core")
    assert done.returncode == 0, done.stderr
    assert clone.version("tiny") == "1.0"


@pytest.mark.slow
def test_what_outlives_a_killed_call_is_waited_for(clone: Clone) -> None:
    process = clone.start("core", PAUSE_BEFORE="pip", PAUSE_SECONDS="2")
    clone.wait_until_asked("pip")
    process.kill()
    done = clone.run("core")
    process.communicate()
    assert done.returncode == 0, done.stderr
    assert "waiting for it" in done.stderr
    assert clone.version("tiny") == "1.0"


@pytest.mark.slow
def test_a_killed_update_leaves_nothing_that_passes_for_whole(clone: Clone) -> None:
    clone.run("core")
    clone.require("core", "tiny==20.0")
    process = clone.start("core", PAUSE_BEFORE="pip", PAUSE_SECONDS="60")
    while clone.times_installed() < 2:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    clone.require("core", "tiny==1.0")
    assert clone.run("--check", "core").returncode == 1
    assert clone.run("core").returncode == 0
    assert clone.version("tiny") == "1.0"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_by_a_signal_it_takes_its_children_along(clone: Clone, number: signal.Signals, code: int) -> None:
    process = clone.start("core", PAUSE_BEFORE="pip", PAUSE_SECONDS="60")
    clone.wait_until_asked("pip")
    below = psutil.Process(process.pid).children(recursive=True)
    assert below
    process.send_signal(number)
    process.wait(60)
    assert process.returncode == code
    _, alive = psutil.wait_procs(below, timeout=30)
    assert not alive
    assert clone.run("core").returncode == 0


@pytest.mark.slow
def test_it_ends_with_the_command_that_asked_for_it(clone: Clone, repo: Path) -> None:
    shutil.copytree(repo / "agent_sft", clone.root / "agent_sft")
    asking = "from agent_sft.engines.environments import engine_python; engine_python('train')"
    env = clone.env | {"PYTHONPATH": str(clone.root), "PAUSE_BEFORE": "pip", "PAUSE_SECONDS": "60"}
    process = subprocess.Popen([sys.executable, "-P", "-c", asking], env=env)
    clone.wait_until_asked("pip")
    below = psutil.Process(process.pid).children(recursive=True)
    assert below
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(below, timeout=30)
    assert not alive


def test_two_at_once_make_it_once(clone: Clone) -> None:
    processes = [clone.start("core", PAUSE_BEFORE="pip", PAUSE_SECONDS="1") for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    assert clone.times_installed() == 1


def test_an_existing_installation_is_used_as_it_is(clone: Clone, tmp_path: Path) -> None:
    python = tmp_path / "my python"
    python.symlink_to("/bin/sh")
    done = clone.run("train", AGENT_SFT_TRAIN_PYTHON=str(python))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{python}\n", "")
    assert not (clone.root / ".venvs").exists()


def test_a_variable_that_points_to_nothing_is_named(clone: Clone) -> None:
    done = clone.run("train", AGENT_SFT_TRAIN_PYTHON="/nowhere/python")
    assert done.returncode == 2
    assert "AGENT_SFT_TRAIN_PYTHON: '/nowhere/python'" in done.stderr
    assert not (clone.root / ".venvs").exists()


def test_the_base_python_can_be_chosen(clone: Clone) -> None:
    refused = clone.run("core", AGENT_SFT_BASE_PYTHON="/bin/false")
    assert refused.returncode == 2
    assert "AGENT_SFT_BASE_PYTHON: '/bin/false' is not a Python from 3.11 to 3.13" in refused.stderr
    assert not (clone.root / ".venv").exists()
    clone.run("core")
    # The same Python by another name is no reason to make it again.
    link = clone.root / "python"
    link.symlink_to((clone.root / ".venv" / "bin" / "python").resolve())
    assert clone.run("core", AGENT_SFT_BASE_PYTHON=str(link)).stderr == ""


def test_an_engine_gets_exactly_the_torch_that_is_pinned(clone: Clone) -> None:
    assert clone.run("train").returncode == 0
    assert clone.version("torch", ".venvs/train") == "2.13.0"


def test_with_an_nvidia_gpu_train_gets_its_kernels(clone: Clone) -> None:
    script = 'set -euo pipefail; source "$1/scripts/env.sh"; env_has_nvidia() { true; }; ensure_env train'
    subprocess.run(["bash", "-c", script, "bash", clone.root], env=clone.env, check=True)
    assert clone.version("tiny", ".venvs/train") == "20.0"


def test_an_unknown_name_is_refused_with_the_known_ones(clone: Clone) -> None:
    done = clone.run("trian")
    assert done.returncode == 2
    assert "there is no environment 'trian'\n  there are: core dev train uv\n" in done.stderr


def test_a_failed_installation_shows_the_end_of_its_log(clone: Clone) -> None:
    clone.require("core", "tiny==3.0")
    done = clone.run("core")
    assert done.returncode == 1
    assert f"the end of {clone.root}/.venvs/core.log:" in done.stderr
    assert "tiny==3.0" in done.stderr
    clone.require("core", "tiny==20.0")
    assert clone.run("core").returncode == 0
    assert clone.version("tiny") == "20.0"


def test_a_folder_that_is_not_ours_is_left_alone(clone: Clone) -> None:
    (clone.root / ".venv" / "bin").mkdir(parents=True)
    (clone.root / ".venv" / "mine").touch()
    done = clone.run("core")
    assert done.returncode == 2
    assert "was not made by agent-sft" in done.stderr
    assert (clone.root / ".venv" / "mine").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Callable[[Path, str], list[str]]:
    """Return how to run bash with a folder of the given size, in a mount namespace of its own."""
    probe = ["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(probe, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody mount a small disk")

    def command(folder: Path, size: str) -> list[str]:
        script = 'mount -t tmpfs -o size="$2" tmpfs "$1" && exec bash "$3" train'
        env_script = str(folder.parent / "scripts" / "env.sh")
        return ["unshare", "--mount", "--map-root-user", "bash", "-c", script, "bash", str(folder), size, env_script]

    return command


def test_a_full_disk_is_said(clone: Clone, small_disk: Callable[[Path, str], list[str]]) -> None:
    (clone.root / ".venvs").mkdir()
    done = subprocess.run(
        small_disk(clone.root / ".venvs", "64k"), env=clone.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no space left on the disk" in done.stderr
