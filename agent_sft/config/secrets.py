"""Keys of services: from the environment or a `.env` file, never from the command line, never written anywhere."""

from __future__ import annotations

import os
from pathlib import Path

ENV_FILE = ".env"


def environment_with_secrets(folder: Path | None = None) -> dict[str, str]:
    """Return our environment variables and those of the `.env` file in `folder` that are not set there.

    Args:
        folder: the current one when None.
    """
    from dotenv import dotenv_values

    in_file = dotenv_values((folder or Path()) / ENV_FILE)
    return {**{name: value for name, value in in_file.items() if value is not None}, **os.environ}
