"""A job on a cluster, from its place in Ray's queue to its end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from agent_sft.runs.leash import Leash
from agent_sft.sweep.retrying import last_words
from agent_sft.sweep.slots import ANY, Node, Share

WAIT_SECONDS = 20.0
"""After this long without a place the user is told."""
KILLED = 137


class Owner(Protocol):
    """What a handle needs of the executor that made it."""

    def pump(self) -> None:
        """Take note of what was told."""

    def forget(self, handle: RayHandle, *, cancel: bool) -> None:
        """Let the job go; take its task back, where that does not end by itself."""

    def suspect(self, node: Node) -> None:
        """Take note that a job has lost its place on a machine."""

    def say(self, text: str) -> None:
        """Tell the user."""


class RayHandle:
    """One job; see `agent_sft.sweep.executor.Handle`."""

    def __init__(
        self,
        owner: Owner,
        job: str,
        share: Share,
        leashes: Sequence[Leash],
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
    ) -> None:
        """Make one of which nothing runs yet.

        Args:
            owner: the executor.
            job: its id.
            share: of the cluster that it has.
            leashes: one for each of the share's machines, on which nobody hangs yet.
            command: program and arguments.
            environment: all of it, but for the devices.
            log: file that gets its output; that of further machines goes beside it.
        """
        self.name = job
        self.leashes = list(leashes)
        self._owner, self._job, self._share = owner, job, share
        self._command, self._environment, self._log = list(command), dict(environment), log
        names = [f"{log.stem}.machine-{rank}{log.suffix}" for rank in range(1, len(leashes))]
        self._logs = [log, *(log.with_name(name) for name in names)]
        self._begun = time.monotonic()
        self._started = self._told = False
        self._status: int | None = None
        self._lost: str | None = None

    def poll(self) -> int | None:
        """Return the exit status, or None while it waits or runs."""
        if self._status is None:
            self._owner.pump()
        return self._status

    def lost(self) -> str | None:
        """Return why it ended where that was the end of its machine or of the cluster."""
        return self._lost

    def where(self) -> list[str] | None:
        """Return the machines and GPUs that it was given; None while it waits for them."""
        if not self._started:
            return None
        words = []
        for node, leash in zip(self._share.nodes, self.leashes, strict=True):
            devices = leash.far.devices if leash.far is not None else ()
            words += [f"{_name(node, leash)}: gpu {device}" for device in devices] or [_name(node, leash)]
        return words

    def terminate(self) -> None:
        """Ask it to save and end; what waits simply does not start."""
        if self._status is not None:
            return
        if not self._started:
            self._end(143)
            return
        for leash in self.leashes:
            leash.terminate()

    def kill(self) -> None:
        """End it and all that it started."""
        if self._status is not None:
            return
        for leash in self.leashes:
            leash.kill()
        self._end(KILLED)

    def look(self) -> None:
        """Take note of what the far ends have said: start what is ready, end what is over."""
        if self._status is not None:
            return
        if not self._started and all(leash.far is not None for leash in self.leashes):
            self._start()
        for node, leash in zip(self._share.nodes, self.leashes, strict=True):
            if leash.broken:
                self._owner.suspect(node)
                self.lose(f"it lost its place on {_name(node, leash)}")
                return
        ended = [leash.status for leash in self.leashes]
        failed = next((rank for rank, status in enumerate(ended) if status), None)
        if failed is not None:
            self._end_others(failed)
        elif all(status is not None for status in ended):
            self._end(0)
        elif not self._started and not self._told and time.monotonic() - self._begun > WAIT_SECONDS:
            self._told = True
            names = ", ".join(node.name for node in self._share.nodes)
            self._owner.say(f"{self._job}: waits for {names}: somebody else uses it, too")

    def task_ended(self, why: str | None) -> None:
        """Take note that Ray's task is over.

        Args:
            why: what Ray says of it; None where it ended by itself.
        """
        self.look()
        if self._status is not None:
            return
        if why is not None:
            for node in self._share.nodes:
                self._owner.suspect(node)
            self.lose(f"Ray ended it: {why}")
        elif not self._started:
            names = ", ".join(node.name for node in self._share.nodes)
            with self._log.open("a", encoding="utf-8") as log:
                log.write(f"error: {names} cannot reach the process that gave it this job: its ports are closed\n")
            self._end(1)

    def lose(self, why: str) -> None:
        """Let the attempt be lost."""
        if self._status is None:
            self._lost = why
            self._end(KILLED)

    def _start(self) -> None:
        """Start the command, on several machines when the first has found a port at which they meet."""
        first, *others = self.leashes
        options: list[str] = []
        if others and first.port is None:
            first.ask_port()
            return
        if others:
            assert first.far is not None
            options = ["--master-addr", first.far.address, "--master-port", str(first.port), "--node-rank"]
        self._started = True
        for rank, (leash, log) in enumerate(zip(self.leashes, self._logs, strict=True)):
            command = [*self._command, *options, *([str(rank)] if others else [])]
            leash.start(command, self._environment, log.absolute(), Path.cwd())

    def _end_others(self, failed: int) -> None:
        """End what waits for the one that failed, and say of that in the log that people look at."""
        for leash in self.leashes:
            if leash.status is None:
                leash.kill()
        log = self._logs[failed]
        if failed:
            end = "".join(f"  | {line}\n" for line in last_words(log))
            with self._log.open("a", encoding="utf-8") as stream:
                stream.write(f"error: machine {failed} failed; the end of {log}:\n{end}")
        self._end(self.leashes[failed].status or 1)

    def _end(self, status: int) -> None:
        self._status = status
        self._owner.forget(self, cancel=not self._started or self._lost is not None)


def _name(node: Node, leash: Leash) -> str:
    """Return the name of a machine, whichever it is."""
    return leash.far.host if node is ANY and leash.far is not None else node.name
