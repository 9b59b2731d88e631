"""Which checkpoints of a finished variant go, and their going."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from agent_sft.engines.llamafactory.checkpoints import find_checkpoints
from agent_sft.runs.directory import RunDirectory

Keep = Literal["last", "scored", "all"]


def superfluous(run: Path, keep: Keep, scored: Collection[int]) -> list[Path]:
    """Return the checkpoints that the rule does not keep, by rising step.

    `all` keeps all; `scored` the newest whole one and those that were scored; `last` the newest whole one alone. The
    trained model itself, at the top of the run, is no checkpoint and always stays. Of a training that is not finished
    everything stays: it goes on from there.

    Args:
        run: the training's directory.
        keep: the rule.
        scored: optimizer steps of the checkpoints that were scored.
    """
    stamp = RunDirectory(run).stamp("train")
    if keep == "all" or stamp is None:
        return []
    checkpoints = find_checkpoints(run, int(stamp.inputs.get("processes") or 1))
    whole = [checkpoint.step for checkpoint in checkpoints if checkpoint.missing is None]
    # Where none is whole the newest stays all the same: nothing better is there.
    kept = set((whole or [checkpoint.step for checkpoint in checkpoints])[-1:])
    if keep == "scored":
        kept |= set(scored)
    return [checkpoint.path for checkpoint in checkpoints if checkpoint.step not in kept]


def prune(run: Path, keep: Keep, scored: Collection[int]) -> tuple[list[str], int]:
    """Delete the checkpoints that the rule does not keep; return their names and how many bytes that freed."""
    gone = superfluous(run, keep, scored)
    freed = sum(size_of(path) for path in gone)
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    if gone:
        RunDirectory(run).record("checkpoints pruned", keep=keep, names=[path.name for path in gone], bytes=freed)
    return [path.name for path in gone], freed


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    total = 0
    for entry in [path, *path.rglob("*")] if path.is_dir() else [path]:
        with contextlib.suppress(OSError):
            status = entry.lstat()
            total += 0 if entry.is_dir() else status.st_size
    return total
