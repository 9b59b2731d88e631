"""One process has an engine imported and forks what is done with it in a sweep: all but the first begins at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent_sft.config.secrets import environment_with_secrets
from agent_sft.engines.environments import engine_python
from agent_sft.engines.forks.sharing import FORKS, Shared
from agent_sft.engines.inspect.launch import environment as inspect_environment
from agent_sft.engines.inspect.tasks import SHARED as INSPECT
from agent_sft.engines.llamafactory.launch import SHARED as LLAMAFACTORY
from agent_sft.engines.llamafactory.launch import SHARED_DEEPSPEED as DEEPSPEED
from agent_sft.engines.llamafactory.launch import Launch, training_environment
from agent_sft.engines.vllm.launch import SHARED as VLLM
from agent_sft.engines.vllm.launch import serving_environment
from agent_sft.errors import UserError, WorkFailed
from agent_sft.sweep.executor import Executor, Handle
from agent_sft.sweep.graph import Job, SweepPlan
from agent_sft.sweep.slots import Share

FOLDER = "forks"
"""In the sweep's folder: where such processes listen, and what they say."""
ALONE = Launch(processes=1, nodes=1, node_rank=0, master_addr="127.0.0.1", master_port=None)


@dataclass(frozen=True)
class Engine:
    """An engine, and what has to be the same for its programs to be forked."""

    shared: Shared
    environment: Callable[[Path], Mapping[str, str]]
    """Given its Python: the variables that its programs are started with."""
    computes: bool
    """Whether importing it looks at GPUs, so that what is forked could not use them."""


ENGINES = (
    Engine(LLAMAFACTORY, lambda python: training_environment(python, ALONE, gpus=0), computes=True),
    Engine(DEEPSPEED, lambda python: training_environment(python, ALONE, gpus=0), computes=True),
    Engine(VLLM, lambda _: serving_environment("", local=True, on_gpu=False), computes=True),
    Engine(INSPECT, lambda python: inspect_environment(environment_with_secrets(), "", None, python), computes=False),
)


class States(Protocol):
    """How the jobs of a plan stand."""

    @property
    def plan(self) -> SweepPlan:
        """The plan."""

    def state(self, job: str) -> str:
        """Return a job's state."""


class Forking:
    """Starts such a process with the first job of an engine after which others come, and ends it with the last one.

    Without it programs start by themselves; so they do on other machines. One that was killed is started anew with the
    next job, if others come after it, but no second time: what it forks may be too much for this machine. Where this
    process was given some already, they are used, and none is started.
    """

    def __init__(self, executor: Executor, standing: States) -> None:
        """Get ready; nothing is started yet."""
        self._executor = executor
        self._standing = standing
        self._jobs: tuple[SweepPlan | None, Mapping[Shared, frozenset[str]]] = None, {}
        self._folder = standing.plan.out.absolute() / FOLDER
        self._servers: dict[Shared, Handle] = {}
        self._died: set[Shared] = set()

    def variables(self, jobs: Iterable[Job], share: Share) -> dict[str, str]:
        """Return the variables by which these jobs, done in one process, find the processes of their engines."""
        if os.environ.get(FORKS) or not self._executor.here:
            return {}
        names = {job.id for job in jobs}
        found = {}
        for engine in ENGINES:
            shared = engine.shared
            if (engine.computes and share.on_gpus) or not names & self._sharing(shared):
                continue
            if shared in self._servers and shared not in self._died and self._servers[shared].poll() is not None:
                self._died.add(shared)
                self._end(shared)
            if shared not in self._servers and self._coming(shared) > 1:
                self._start(engine, share)
            if shared in self._servers:
                found[FORKS] = str(self._folder)
        return found

    def end_if_over(self) -> None:
        """End those of whose engine nothing comes any more: they hold memory."""
        for shared in list(self._servers):
            if self._coming(shared) == 0:
                self._end(shared)

    def end(self) -> None:
        """End all of them; what they forked ends with them."""
        for shared in list(self._servers):
            self._end(shared)

    def _end(self, shared: Shared) -> None:
        self._servers.pop(shared).kill()
        shared.socket(self._folder).unlink(missing_ok=True)

    def _coming(self, shared: Shared) -> int:
        """Return how many jobs of an engine are not over, those that run included."""
        return sum(self._standing.state(name) not in ("done", "failed", "skipped") for name in self._sharing(shared))

    def _sharing(self, shared: Shared) -> frozenset[str]:
        plan, found = self._jobs
        if plan is not self._standing.plan:  # what a training has left may make it another one
            plan, found = self._jobs = self._standing.plan, jobs_of(self._standing.plan)
        return found[shared]

    def _start(self, engine: Engine, share: Share) -> None:
        """Start one with the environment of its programs. Where it cannot be started, a job tells why it cannot."""
        with contextlib.suppress(OSError, UserError, WorkFailed):
            shared = engine.shared
            python = engine_python(shared.environment)
            added = {**engine.environment(python), **share.environment()}
            environment = {name: value for name, value in added.items() if os.environ.get(name) != value}
            command, log = shared.server_command(python, self._folder), self._folder / f"{shared.name}.log"
            self._servers[shared] = self._executor.submit("forking", command, share, environment, log)


def jobs_of(plan: SweepPlan) -> dict[Shared, frozenset[str]]:
    """Return the jobs that can share an engine.

    LLaMA-Factory: trainings without DeepSpeed, and held-out losses. DeepSpeed: trainings by it. vLLM: evaluations that
    need a server. Inspect: its evaluations.
    """
    by_deepspeed: dict[str | None, bool] = {
        one.name: one.sft.deepspeed is not None for one in plan.variants if one.sft is not None
    }
    if plan.config.base is not None:
        by_deepspeed[None] = plan.config.base.get("deepspeed") is not None
    trainings = [job for job in plan.jobs if job.kind == "train" and job.variant in by_deepspeed]

    def trained(*, deepspeed: bool) -> set[str]:
        return {job.id for job in trainings if by_deepspeed[job.variant] is deepspeed}

    def evaluated(evaluator: str) -> set[str]:
        return {job.id for job in plan.jobs if job.evaluation is not None and job.evaluation.evaluator == evaluator}

    return {
        LLAMAFACTORY: frozenset(trained(deepspeed=False) | evaluated("loss")),
        DEEPSPEED: frozenset(trained(deepspeed=True)),
        VLLM: frozenset(job.id for job in plan.jobs if job.server is not None),
        INSPECT: frozenset(evaluated("inspect")),
    }
