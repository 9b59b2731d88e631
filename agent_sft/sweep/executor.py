"""Where a sweep's jobs run. The scheduler knows of processes only what this interface says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from agent_sft.runs.processes import Child
from agent_sft.sweep.slots import Capacity


class Handle(Protocol):
    """A job that was submitted."""

    def poll(self) -> int | None:
        """Return the exit status (128 + signal number after a signal), or None while it waits or runs."""

    def terminate(self) -> None:
        """Ask it to save and end."""

    def kill(self) -> None:
        """End it and all that it started; nothing is left when this returns."""


class Executor(Protocol):
    """Runs commands, each until it ends or is ended."""

    def capacity(self) -> Capacity:
        """Return what there is to share out among jobs."""

    def submit(self, job: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Handle:
        """Start a command in the folder that the sweep was started in.

        Args:
            job: the job's id.
            command: program and arguments.
            environment: variables beside those of this process.
            log: file that gets its output, made with its folder.

        Raises:
            OSError: it cannot be started.
        """


class LocalExecutor:
    """Runs commands on this machine, under a keeper: whatever ends this process ends them too."""

    def __init__(self, capacity: Capacity, lock: int) -> None:
        """Make an executor.

        Args:
            capacity: what it may use of this machine.
            lock: descriptor that stays open until all that was started is gone.
        """
        self._capacity = capacity
        self._lock = lock

    def capacity(self) -> Capacity:
        """Return what it may use of this machine."""
        return self._capacity

    def submit(self, job: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Handle:
        """Start a command; see `Executor.submit`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        return Child(command, log=log, env={**os.environ, **environment}, hold=[self._lock])
