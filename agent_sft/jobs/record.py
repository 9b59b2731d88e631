"""What is written down of a job. A job is a run's directory; what makes it a job lies in `job/` of it.

job.json                     what runs, where, and what it needs of the machine
.lock                        held by the job's supervisor, and by all that it started
attempts/N/submitted.json    its number in Slurm, where it was submitted to that
attempts/N/script.sbatch     what was submitted
attempts/N/log               what the N-th attempt said
attempts/N/started.json      when it had its slots, which they are, who supervises it
attempts/N/cancelled.json    when somebody asked for its end
attempts/N/ended.json        when and how it ended, as its supervisor saw it
events.jsonl                 one line for each thing that happened
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from agent_sft.files import read_json, write_json
from agent_sft.runs.directory import RunDirectory

FOLDER = "job"
SPEC, LOCK = "job.json", ".lock"
STARTED, CANCELLED, ENDED, LOG = "started.json", "cancelled.json", "ended.json", "log"
SUBMITTED, SCRIPT = "submitted.json", "script.sbatch"


@dataclass(frozen=True)
class Need:
    """What a job takes of the machine."""

    slots: tuple[str, ...] = ()
    """Names of those that will do."""
    count: int = 1
    """How many of them it takes."""
    gpus: bool = False
    """Whether the slots are GPUs, named by their UUIDs; of a cluster, whether GPUs are what is counted."""
    executor: Literal["local", "ray", "slurm"] = "local"
    """Where it runs. A Ray cluster has no slots: there `count` are the GPUs, or processors, of each machine."""
    address: str | None = None
    """The cluster's."""
    nodes: int = 1
    """Machines of the cluster."""
    slurm: dict[str, Any] | None = None
    """What is asked of Slurm, those keys of `SlurmConfig` that were given."""


@dataclass(frozen=True)
class Spec:
    """What a job is."""

    id: str
    kind: str
    """`sft`: a training. `command`: whatever else its directory is for."""
    command: tuple[str, ...]
    """As a person would type it."""
    folder: str
    """Where the command runs."""
    need: Need
    submitted: str
    """When it was submitted first; ISO 8601, UTC."""

    @classmethod
    def read(cls, run: Path) -> Spec | None:
        """Return what the job in a run's directory is; None where there is no job."""
        value = read_json(run / FOLDER / SPEC)
        if not isinstance(value, dict):
            return None
        try:
            need = value.pop("need")
            need = Need(**{**need, "slots": tuple(need["slots"])})
            return cls(**{**value, "command": tuple(value["command"]), "need": need})
        except (KeyError, TypeError):
            return None

    def write(self, run: Path) -> None:
        """Write it down."""
        write_json(run / FOLDER / SPEC, asdict(self))


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job."""

    path: Path

    @property
    def number(self) -> int:
        """Which one it is, from 1."""
        return int(self.path.name)

    @property
    def log(self) -> Path:
        """What it said."""
        return self.path / LOG

    def fact(self, name: str) -> dict[str, Any] | None:
        """Return one of the facts `SUBMITTED`, `STARTED`, `CANCELLED` and `ENDED`; None where it is not one."""
        value = read_json(self.path / name)
        return value if isinstance(value, dict) else None


def record_of(run: Path) -> RunDirectory:
    """Return the record of the job in a run's directory."""
    return RunDirectory(run / FOLDER)


def lock_of(run: Path) -> Path:
    """Return the lock of the job in a run's directory."""
    return run / FOLDER / LOCK


def attempts_of(run: Path) -> list[Attempt]:
    """Return a job's attempts, the first first."""
    folder = run / FOLDER / "attempts"
    found = [path for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
    return [Attempt(path) for path in sorted(found, key=lambda path: int(path.name))]
