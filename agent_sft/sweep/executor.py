"""Where a sweep's jobs run. The scheduler knows of processes only what this interface says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from agent_sft.runs.processes import Child
from agent_sft.sweep.slots import Capacity, Share


class Handle(Protocol):
    """A job that was submitted."""

    def poll(self) -> int | None:
        """Return the exit status (128 + signal number after a signal), or None while it waits or runs."""

    def lost(self) -> str | None:
        """Return why it ended, in words, where that was the end of the machine or the cluster that it ran on."""

    def where(self) -> list[str] | None:
        """Return what it was given to run on, in words, once it has it; None where its share says all of that."""

    def terminate(self) -> None:
        """Ask it to save and end."""

    def kill(self) -> None:
        """End it and all that it started; nothing is left when this returns."""


class Executor(Protocol):
    """Runs commands, each until it ends or is ended."""

    @property
    def here(self) -> bool:
        """Whether all that it runs is on this machine, so that jobs can share a process."""

    def capacity(self) -> Capacity:
        """Return what there is to share out among jobs; of a cluster, now.

        Raises:
            WorkFailed: the cluster is gone.
        """

    def submit(
        self, job: str, command: Sequence[str], share: Share, environment: Mapping[str, str], log: Path
    ) -> Handle:
        """Start a command in the folder that the sweep was started in.

        Args:
            job: the job's id.
            command: program and arguments.
            share: what it has while it runs, and uses alone.
            environment: variables beside those of this process and of the share.
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

    @property
    def here(self) -> bool:
        """Return True."""
        return True

    def capacity(self) -> Capacity:
        """Return what it may use of this machine."""
        return self._capacity

    def submit(
        self, job: str, command: Sequence[str], share: Share, environment: Mapping[str, str], log: Path
    ) -> Handle:
        """Start a command; see `Executor.submit`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        return Child(command, log=log, env={**os.environ, **share.environment(), **environment}, hold=[self._lock])
