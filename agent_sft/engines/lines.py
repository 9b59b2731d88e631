"""Lines of JSON that an engine adds to a file while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson


class LineFollower:
    """Follows a file of JSON lines; a line that is still being written is not taken yet."""

    def __init__(self, path: Path, *, from_end: bool = False) -> None:
        """Begin to follow.

        Args:
            path: the file, which need not be there yet.
            from_end: leave out what stands in it now.
        """
        self._path = path
        self._offset = path.stat().st_size if from_end and path.is_file() else 0

    def new_lines(self) -> list[dict[str, Any]]:
        """Return the objects on whole lines that were added since the last call; other lines are passed over."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                text = stream.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [line for line in map(_decode, whole.splitlines()) if line is not None]


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
