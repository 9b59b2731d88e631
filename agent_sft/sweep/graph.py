"""What a sweep is made of: variants, and the jobs that have to be done for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from agent_sft.config.evaluation import EvaluationConfig
from agent_sft.config.sft import SFTConfig
from agent_sft.config.sweep import SweepConfig, Value

K = TypeVar("K")
Kind = Literal["prepare", "train", "score", "evaluate"]
"""`prepare`: a command that makes files. `train`: `agent-sft sft`. `score`: an evaluation on a server that several
share. `evaluate`: an evaluation that needs no server (held-out loss), or brings its own."""


@dataclass(frozen=True)
class Slots:
    """What a job takes of the machine while it runs."""

    gpus: int = 0
    cores: int = 0
    """Counted only where there is no GPU."""
    nodes: int = 1
    """Machines of a cluster that it takes so much of, each."""


@dataclass(frozen=True)
class Variant:
    """One line of the report: a training with its settings and seed, or a finished model."""

    name: str
    """Unique, plain: letters, digits, `.`, `_`, `-`. Ends with `-seedN` where there are several seeds."""
    group: str
    """The same for all seeds of a variant; the name where there is one seed."""
    value: Value | None
    """Of the varied setting."""
    seed: int | None
    sft: SFTConfig | None
    """Its training, `output_dir` resolved; None for a finished model."""
    model: str
    """What is scored: the training's folder, or the finished model."""


@dataclass(frozen=True)
class Job:
    """A node of the graph. It is done when its own stamps say so, not because it ended once."""

    id: str
    """`prepare/0`, `train/base`, `train/VARIANT`, `score/VARIANT/CHECKPOINT/EVALUATOR`."""
    kind: Kind
    after: tuple[str, ...]
    """Jobs that must have succeeded before."""
    slots: Slots
    command: tuple[str, ...]
    """What runs it by itself, from the folder that the sweep was started in; what `--dry-run` shows."""
    variant: str | None = None
    """None for what all of them need."""
    checkpoint: str | None = None
    """`final`, `best`, or `step-N`."""
    evaluator: str | None = None
    """The name of its evaluator in the sweep."""
    evaluation: EvaluationConfig | None = None
    """What a `score` or `evaluate` job evaluates, its `out` and `model` resolved."""
    server: str | None = None
    """Jobs of kind `score` with the same name here may share a server, one after the other."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables set for it, beside those of its devices."""


@dataclass(frozen=True)
class SweepPlan:
    """Everything a sweep will do, in an order in which it could be done."""

    config: SweepConfig
    out: Path
    variants: tuple[Variant, ...]
    jobs: tuple[Job, ...]
    evaluators: tuple[str, ...]
    """Names, in the order of the file."""
    baseline: str | None
    """A variant's group."""
    notes: tuple[str, ...] = ()
    """What the user should know before it starts."""

    @cached_property
    def places(self) -> dict[str, int]:
        """Where each job, by its id, stands in the order."""
        return {job.id: place for place, job in enumerate(self.jobs)}

    @cached_property
    def waiting_for(self) -> dict[str, tuple[Job, ...]]:
        """The jobs that come right after each, by its id, in order; nothing where none does."""
        return _grouped((name, job) for job in self.jobs for name in job.after)

    @cached_property
    def of_variant(self) -> dict[str | None, tuple[Job, ...]]:
        """The jobs of each variant, in order; those that all need with None."""
        return _grouped((job.variant, job) for job in self.jobs)

    @cached_property
    def of_server(self) -> dict[str, tuple[Job, ...]]:
        """The jobs that may share a server, by its name, in order."""
        return _grouped((job.server, job) for job in self.jobs if job.server is not None)

    @cached_property
    def _by_name(self) -> dict[str, Variant]:
        return {variant.name: variant for variant in self.variants}

    def job(self, name: str) -> Job:
        """Return the job of this id."""
        return self.jobs[self.places[name]]

    def variant(self, name: str) -> Variant:
        """Return the variant of this name."""
        return self._by_name[name]

    def run_of(self, job: Job) -> Path | None:
        """Return the directory of the run that a training makes; None for other jobs."""
        if job.kind != "train":
            return None
        variant = self._by_name.get(job.variant) if job.variant is not None else None
        return variant.sft.output_dir if variant is not None and variant.sft is not None else self.out / "base"


def _grouped(pairs: Iterable[tuple[K, Job]]) -> dict[K, tuple[Job, ...]]:
    """Return the jobs of each key, in the order in which they come."""
    found: defaultdict[K, list[Job]] = defaultdict(list)
    for key, job in pairs:
        found[key].append(job)
    return {key: tuple(jobs) for key, jobs in found.items()}
