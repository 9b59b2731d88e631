"""A small random model with its own tokenizer, for trying everything out where there is no GPU."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

from agent_sft.config.tiny import TinyModel
from agent_sft.engines.environments import call_inside
from agent_sft.engines.llamafactory.facts import INSIDE
from agent_sft.errors import WorkFailed
from agent_sft.files import unwritable


def make_tiny_model(python: Path, data: Path, folder: Path, *, seed: int, like: TinyModel | None = None) -> None:
    """Make a random Qwen2 and a tokenizer trained on the data, for the template `qwen`.

    The same data, seed and description give the same files. The folder is whole or not there; one that was there
    is replaced.

    Args:
        python: the train environment's.
        data: prepared conversations, JSONL in ShareGPT form.
        folder: where the model goes.
        seed: of the weights.
        like: its sizes and tokens; None: the tiny ones, some 0.5 M parameters.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
        WorkFailed: the environment lacks a package.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            made = Path(scratch) / folder.name
            made.mkdir()
            described = (like or TinyModel()).model_dump(mode="json")
            order = {"data": str(data.absolute()), "folder": str(made), "seed": seed, "like": described}
            _make(python, order, folder)
            if folder.exists():
                folder.replace(Path(scratch) / "replaced")
            made.replace(folder)
    except OSError as error:
        raise unwritable(folder, error) from error


def _make(python: Path, order: dict[str, Any], folder: Path) -> None:
    try:
        call_inside(python, INSIDE / "tiny_model.py", payload=order)
    except WorkFailed as error:
        if f"[Errno {errno.ENOSPC}]" in str(error):
            raise unwritable(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        raise
