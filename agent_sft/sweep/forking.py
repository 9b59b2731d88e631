"""One process has LLaMA-Factory imported and forks what it does in a sweep: all but the first begins at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any, Protocol

from agent_sft.engines.environments import engine_python
from agent_sft.engines.llamafactory.launch import FORK_SERVER, Launch, fork_server_command, training_environment
from agent_sft.errors import UserError, WorkFailed
from agent_sft.sweep.executor import Executor, Handle
from agent_sft.sweep.graph import Job, SweepPlan
from agent_sft.sweep.slots import Share

LOG, SOCKET = "fork_server.log", "fork_server.socket"
ALONE = Launch(processes=1, nodes=1, node_rank=0, master_addr="127.0.0.1", master_port=None)


class States(Protocol):
    """How the jobs of a plan stand."""

    @property
    def plan(self) -> SweepPlan:
        """The plan."""

    def state(self, job: str) -> str:
        """Return a job's state."""


class Forking:
    """Starts that process with the first job of LLaMA-Factory after which others come, and ends it with the last one.

    Without it, or where it has ended, jobs start by themselves. So they do on other machines, and on GPUs: importing
    LLaMA-Factory looks at them, and what is forked afterwards could not use them.
    """

    def __init__(self, executor: Executor, standing: States) -> None:
        """Get ready; nothing is started yet."""
        self._executor = executor
        self._standing = standing
        self._jobs: tuple[SweepPlan | None, frozenset[str]] = None, frozenset()
        self._place = standing.plan.out.absolute() / SOCKET
        self._server: Handle | None = None

    def variables(self, job: Job, share: Share) -> dict[str, str]:
        """Return the variables by which a job, if it is LLaMA-Factory's, finds the process."""
        if share.on_gpus or not self._executor.here or job.id not in self._alone():
            return {}
        if self._server is None and self._coming() > 1:
            self._start(share)
        return {} if self._server is None else {FORK_SERVER: str(self._place)}

    def end_if_over(self) -> None:
        """End it where nothing of LLaMA-Factory comes any more: it holds memory."""
        if self._server is not None and self._coming() == 0:
            self.end()

    def end(self) -> None:
        """End it; what it forked ends with it."""
        if self._server is not None:
            self._server.kill()
            self._place.unlink(missing_ok=True)
            self._server = None

    def _coming(self) -> int:
        """Return how many jobs of LLaMA-Factory are not over, those that run included."""
        return sum(self._standing.state(name) not in ("done", "failed", "skipped") for name in self._alone())

    def _alone(self) -> frozenset[str]:
        plan, found = self._jobs
        if plan is not self._standing.plan:  # what a training has left may make it another one
            plan, found = self._jobs = self._standing.plan, in_one_process(self._standing.plan)
        return found

    def _start(self, share: Share) -> None:
        """Start it with the environment of a training. Where it cannot be started, a job tells why it cannot."""
        with contextlib.suppress(OSError, UserError, WorkFailed):
            python = engine_python("train")
            added = {**training_environment(python, ALONE, gpus=0), **share.environment()}
            environment = {name: value for name, value in added.items() if os.environ.get(name) != value}
            command = fork_server_command(python, self._place)
            self._server = self._executor.submit("forking", command, share, environment, self._standing.plan.out / LOG)


def in_one_process(plan: SweepPlan) -> frozenset[str]:
    """Return the jobs that LLaMA-Factory does in one process: trainings without DeepSpeed, held-out losses."""
    options: dict[str | None, Mapping[str, Any]] = {
        one.name: {"deepspeed": one.sft.deepspeed, "nproc_per_node": one.sft.nproc_per_node}
        for one in plan.variants
        if one.sft is not None
    }
    if plan.config.base is not None:
        options[None] = plan.config.base

    def alone(job: Job) -> bool:
        if job.kind != "train":
            return job.evaluation is not None and job.evaluation.evaluator == "loss"
        asked = options.get(job.variant)
        return asked is not None and asked.get("deepspeed") is None and asked.get("nproc_per_node") in (None, 1)

    return frozenset(job.id for job in plan.jobs if alone(job))
