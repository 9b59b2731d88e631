"""What the doctor looks at, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agent_sft.errors import UserError
from agent_sft.runs.devices import Gpu


@dataclass(frozen=True)
class Finding:
    """What is said about one thing that was looked at."""

    level: Literal["ok", "warn", "fail"]
    """`fail`: the training cannot work like this. `warn`: it may not, or not well."""
    name: str
    message: str
    fix: str | None = None
    """What to do about it."""


@dataclass(frozen=True)
class Case:
    """A training that is to run on this machine."""

    arguments: dict[str, Any]
    """LLaMA-Factory's settings."""
    processes: int
    """Processes on this machine."""
    nodes: int
    """Machines."""
    master_addr: str | None
    """Address of machine 0."""
    master_port: int | None
    """Port on machine 0 where all processes meet."""
    node_rank: int
    """Number of this machine."""
    output_dir: Path
    """Where the model goes."""
    python: Path | None
    """The train environment's; None where there is none yet."""
    versions: dict[str, str | None]
    """Of the distributions in it, as far as they are known."""
    gpus: tuple[Gpu, ...]
    """The GPUs that the training will see."""
    quick: bool
    """Only what takes milliseconds: no engine is imported, nothing fetched."""


def failed(name: str, error: UserError) -> Finding:
    """Return the finding that an error amounts to."""
    message = f"{error.where}: {error.what}" if error.where else error.what
    return Finding("fail", name, message, error.fix)
