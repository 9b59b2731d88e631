"""Data that is there: looked for in a folder, and read to its last row before it is offered."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent_sft.config.distill import DistillConfig
from agent_sft.data.preparing import prepare_dataset
from agent_sft.distill.prompts import read_prompts
from agent_sft.engines.environments import given_python, is_made
from agent_sft.errors import UserError
from agent_sft.report.numbers import counted
from agent_sft.stages.outside import open_outside

ENDINGS = (".jsonl", ".json", ".eval", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst")
OUTSIDE = (".parquet",)
"""Read by the train environment, where that is there already."""
OURS = ("run.yaml", "evaluation.json", "distillation.json", "sweep.json", "plan.json", "dataset_info.json")
"""What tells that a folder was made by a run: its files are no data to begin with."""
NOT_DATA = ("dataset_info.json", "package.json", "package-lock.json", "tsconfig.json", "config.json", "tokenizer.json")
PASSED_OVER = ("node_modules", "site-packages", "__pycache__", "venv", "saves", "sweeps", "plans", "distilled")
DEEPEST = 5
MOST_FILES = 30
MOST_BYTES = 64 << 20
"""Larger files are not read for being offered; one may name them."""


@dataclass(frozen=True)
class Data:
    """A file, read to its end."""

    path: str
    rows: int
    """That can be used."""
    rejected: int
    form: str

    @property
    def title(self) -> str:
        """The file in a line."""
        rejected = f", {self.rejected:,} cannot be used" if self.rejected else ""
        return f"{self.path}: {counted(self.rows, 'row')}, {self.form}{rejected}"


def conversations(path: str) -> Data:
    """Read a file of conversations as a training would.

    Raises:
        UserError: it cannot be read, or nothing in it can be trained on.
    """
    with tempfile.TemporaryDirectory(prefix="agent-sft-") as scratch:
        report = prepare_dataset(path, name="data", folder=Path(scratch) / "data", opener=open_outside)
        return Data(path, report.rows_kept, report.rows_rejected, report.form)


def prompts(path: str) -> Data:
    """Read a file of prompts as a distillation would.

    Raises:
        UserError: it cannot be read, or holds no prompts.
    """
    asked = read_prompts(DistillConfig(prompts=(path,), teacher="none", to="none.jsonl", allow_rejects=True))
    return Data(path, len(asked.found), len(asked.unusable), "prompts")


def search(folder: Path, read: Callable[[str], Data]) -> tuple[list[Data], int]:
    """Return the files below a folder that can be used, the newest first, and how many were looked at.

    Args:
        folder: where to look.
        read: reads a file to its end.
    """
    files = sorted(_files(folder), key=lambda path: -path.stat().st_mtime)[:MOST_FILES]
    found = []
    for path in files:
        try:
            found.append(read(str(path.relative_to(folder))))
        except UserError:
            continue
    return found, len(files)


def _files(folder: Path) -> Iterator[Path]:
    endings = (*ENDINGS, *OUTSIDE) if given_python("train") or is_made("train") else ENDINGS
    for place, folders, names in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        if depth and any(name in OURS for name in names):
            folders.clear()
            continue
        inner = [one for one in folders if not one.startswith(".") and one not in PASSED_OVER]
        folders[:] = sorted(inner) if depth < DEEPEST else []
        for name in names:
            path = Path(place) / name
            named = name.endswith(endings) and name not in NOT_DATA
            if named and path.is_file() and 0 < path.stat().st_size <= MOST_BYTES:
                yield path
