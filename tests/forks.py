"""A process that has LLaMA-Factory imported, from which the tests' trainings are forked as those of a sweep are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent_sft.engines.environments import engine_python, given_python, is_made
from agent_sft.engines.llamafactory.launch import FORK_SERVER, Launch, fork_server_command, training_environment
from agent_sft.runs.devices import visible_gpus
from agent_sft.runs.processes import Child

ALONE = Launch(processes=1, nodes=1, node_rank=0, master_addr="127.0.0.1", master_port=None)


def unforked() -> dict[str, str]:
    """Return the environment of commands that start LLaMA-Factory anew, as a newcomer's do."""
    return {name: value for name, value in os.environ.items() if name != FORK_SERVER}


@contextmanager
def fork_server() -> Iterator[dict[str, str]]:
    """Yield the variables by which trainings find the process; none where there is a GPU, or no environment yet.

    It imports nothing before it is asked for the first time.
    """
    if visible_gpus() or not (given_python("train") or is_made("train")):
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="forks-") as folder, started(Path(folder)) as place:
        yield {FORK_SERVER: str(place)}


@contextmanager
def started(folder: Path) -> Iterator[Path]:
    """Start such a process; yield its socket."""
    python, place = engine_python("train"), folder / "socket"
    environment = training_environment(python, ALONE, gpus=0)
    child = Child(fork_server_command(python, place, "PYTEST_"), log=folder / "log", env=environment)
    try:
        yield place
    finally:
        child.kill()
