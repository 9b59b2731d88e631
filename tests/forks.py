"""Processes that have an engine imported, from which the tests' programs are forked as those of a sweep are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from agent_sft.engines.environments import engine_python, given_python, is_made
from agent_sft.engines.forks.sharing import FORKS
from agent_sft.runs.devices import visible_gpus
from agent_sft.runs.processes import Child
from agent_sft.sweep.forking import ENGINES, Engine


def unforked() -> dict[str, str]:
    """Return the environment of commands that start engines anew, as a newcomer's do."""
    return {name: value for name, value in os.environ.items() if name != FORKS}


@contextmanager
def fork_servers() -> Iterator[dict[str, str]]:
    """Yield the variables by which programs find the processes.

    There is none for an engine whose environment is not there yet, or which looks at a GPU. They import nothing before
    they are asked for the first time.
    """
    gpus = bool(visible_gpus())
    with tempfile.TemporaryDirectory(prefix="forks-") as folder, ExitStack() as stack:
        for engine in ENGINES:
            name = engine.shared.environment
            if not (engine.computes and gpus) and (given_python(name) or is_made(name)):
                stack.enter_context(started(engine, Path(folder)))
        yield {FORKS: folder}


@contextmanager
def started(engine: Engine, folder: Path) -> Iterator[Path]:
    """Start such a process; yield its socket."""
    shared = engine.shared
    python = engine_python(shared.environment)
    # Without a GPU nothing depends on which GPUs are to be seen.
    command = shared.server_command(python, folder, "PYTEST_", "CUDA_")
    child = Child(command, log=folder / f"{shared.name}.log", env=engine.environment(python))
    try:
        yield shared.socket(folder)
    finally:
        child.kill()
