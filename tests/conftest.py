"""What all tests share: where things are, and running our commands as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

# Nothing is fetched from a hub: everything the tests train is made on the spot.
os.environ["HF_HUB_OFFLINE"] = "1"

# Tests train side by side: threads that wait for each other on the same processors take many times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]

RunCli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def train_python() -> Path:
    """The Python of the environment of LLaMA-Factory and DeepSpeed, made if it is missing."""
    from agent_sft.engines.environments import engine_python

    return engine_python("train")


@pytest.fixture(scope="session")
def serve_python() -> Path:
    """The Python of the environment of vLLM, made if it is missing."""
    from agent_sft.engines.environments import engine_python

    return engine_python("serve")


@pytest.fixture(scope="session")
def run_cli() -> RunCli:
    """Run `agent-sft ARGS`: `run_cli("merge", "--input", path, cwd=..., env={...}, timeout=...)`.

    `env` adds to the variables of the tests. Output is text; the exit code is not checked.
    """

    def run(
        *args: str | os.PathLike[str],
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = 600,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "agent_sft", *(os.fspath(arg) for arg in args)],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
