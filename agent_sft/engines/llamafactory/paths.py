"""Places whose names the `datasets` library would take for something else than a name."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SPECIAL = re.compile(r"[$*?\[\]]|::|://")
"""Variables and patterns, which it expands, and its marks for archives and addresses."""


@contextmanager
def plainly_named(folder: Path) -> Iterator[Path]:
    """Yield a path to `folder` that holds nothing special: itself, or a link to it that is gone afterwards."""
    if not _SPECIAL.search(str(folder.absolute())):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="agent-sft-") as scratch:
        link = Path(scratch) / "data"
        link.symlink_to(folder.absolute())
        yield link
