"""Keys of services: from the environment or a `.env` file, never from the command line, never written anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

ENV_FILE = ".env"
NAMES = ("_KEY", "_TOKEN", "_SECRET")
"""How variables end that hold a secret."""
SHORTEST = 6
"""Characters of a secret; what is shorter stands in texts by chance."""


def environment_with_secrets(folder: Path | None = None) -> dict[str, str]:
    """Return our environment variables and those of the `.env` file in `folder` that are not set there.

    Args:
        folder: the current one when None.
    """
    from dotenv import dotenv_values

    in_file = dotenv_values((folder or Path()) / ENV_FILE)
    return {**{name: value for name, value in in_file.items() if value is not None}, **os.environ}


def secret_values(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the secrets among variables, by their names."""
    return tuple(value for name, value in environment.items() if name.upper().endswith(NAMES))


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return a text without secrets: providers quote the key that they refuse."""
    for secret in secrets:
        if len(secret) >= SHORTEST:
            text = text.replace(secret, "(key)")
    return text
