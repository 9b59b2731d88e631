"""A small random model with its own tokenizer, for trying everything out where there is no GPU."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_sft.engines.environments import call_inside
from agent_sft.engines.llamafactory.facts import INSIDE
from agent_sft.errors import WorkFailed
from agent_sft.files import unwritable


def make_tiny_model(
    python: Path,
    data: Path,
    folder: Path,
    *,
    seed: int,
    shape: Mapping[str, int] | None = None,
    one_token: Sequence[str] = (),
    shared_as_one: bool = False,
) -> None:
    """Make a random Qwen2 and a tokenizer trained on the data, some 0.9 M parameters, for the template `qwen`.

    The same data, seed and options give the same files. The folder is whole or not there; one that was there
    is replaced.

    Args:
        python: the train environment's.
        data: prepared conversations, JSONL in ShareGPT form.
        folder: where the model goes.
        seed: of the weights.
        shape: other sizes than the tiny ones: `layers`, `hidden`, `intermediate`, `heads`,
            `key_value_heads`, `tokens` (of the tokenizer), `vocabulary` (rows of the embedding).
        one_token: texts that are one token each, such as identifiers, which a small model can then copy.
        shared_as_one: make the policy and the tools that all rows share one token each, so that a prompt which is
            always the same costs next to nothing.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
        WorkFailed: the environment lacks a package.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            made = Path(scratch) / folder.name
            made.mkdir()
            order = {
                "data": str(data.absolute()),
                "folder": str(made),
                "seed": seed,
                "shape": dict(shape or {}),
                "one_token": list(one_token),
                "shared_as_one": shared_as_one,
            }
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
