"""A folder that is there only if something came to lie in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from agent_sft.errors import UserError
from agent_sft.files import unwritable


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a folder for what the block writes; when it raises, remove again what was made.

    Raises:
        UserError: there is a file in its place, or it cannot be made.
    """
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError("is a file, not a folder", where=str(folder), fix="choose another place") from error
    except NotADirectoryError as error:
        raise UserError("lies below a file", where=str(folder), fix="choose another place") from error
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # somebody else has put something there
            for path in missing:
                path.rmdir()
        raise
