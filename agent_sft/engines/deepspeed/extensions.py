"""Where torch compiles what DeepSpeed needs, so that a run that was killed in the middle stops no other.

Torch marks a folder of compiled code in work by a file called `lock` (`torch.utils.file_baton`). When its process
is killed, that file stays, and whoever wants the folder next waits for it for ever, without a word. Hence each
training has a folder of its own while it runs: the first of `0`, `1`, ... that no other one holds. What is compiled
stays there for the next. A hold is the kernel's and ends with the last process of the training, so that a torch lock
found in a folder that is free was left by the dead.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from agent_sft.engines.cache import cache_home
from agent_sft.files import digest_value

VARIABLE = "TORCH_EXTENSIONS_DIR"
"""Tells torch where to compile."""


@contextmanager
def held_extensions(python: Path, versions: Mapping[str, str | None]) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Hold a folder for compiled code that nobody else uses; yield the variables of whoever compiles, and the hold.

    The hold is a descriptor to be kept open until all that compiles is gone. Where the user's cache cannot be
    written there is neither: torch can compile nothing there, and leave no lock.
    A `TORCH_EXTENSIONS_DIR` of the user's is the place of these folders, else our part of the user's cache.

    Args:
        python: the train environment's.
        versions: of the packages in it; code compiled for others is not used.
    """
    made_for = {"python": str(python), "versions": {name: versions.get(name) for name in ("torch", "deepspeed")}}
    given = os.environ.get(VARIABLE)
    home = Path(given) / "agent-sft" if given else cache_home() / "torch-extensions"
    try:
        folder, descriptor = _first_free(home / digest_value(made_for).removeprefix("sha256:")[:16])
    except OSError:
        yield {}, []
        return
    try:
        yield {VARIABLE: str(folder)}, [descriptor]
    finally:
        os.close(descriptor)


def _first_free(home: Path) -> tuple[Path, int]:
    home.mkdir(parents=True, exist_ok=True)
    for number in count():
        folder = home / str(number)
        descriptor = os.open(home / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder.mkdir(exist_ok=True)
            for left in folder.glob("*/lock"):
                left.unlink()
        except OSError as error:
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise
        else:
            return folder, descriptor
    raise AssertionError
