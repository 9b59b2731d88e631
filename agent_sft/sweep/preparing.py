"""The commands that make a sweep's data: done when what they read and made is what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent_sft.config.sweep import PrepareConfig
from agent_sft.files import digest_file, digest_value, read_json, write_json
from agent_sft.runs.directory import now

PREPARE = "prepare"


def stamp_path(out: Path, number: int) -> Path:
    """Return the file that says what command `number` read and made."""
    return out / PREPARE / f"{number}.json"


def why_prepare(out: Path, number: int, config: PrepareConfig) -> str | None:
    """Tell why a command has to run; None when what it would make is there.

    Files that lie there already, made by hand or by another sweep, are made again once: nothing tells what of.
    """
    stamp = read_json(stamp_path(out, number))
    if not isinstance(stamp, dict):
        return "not done yet"
    if stamp.get("command") != list(config.command):
        return "its command is another"
    if stamp.get("read") != _digests(config.reads):
        return "what it reads changed"
    for name, digest in stamp.get("made", {}).items():
        if _digest(Path(name)) != digest:
            return f"{name} is {'gone' if not Path(name).exists() else 'not what it made'}"
    return None if set(stamp.get("made", {})) == set(map(str, config.makes)) else "it is to make other files"


def stamp_prepare(out: Path, number: int, config: PrepareConfig) -> list[str]:
    """Note that a command has run, and what it read and made.

    Returns:
        What it was to make and did not; with any of them, nothing is noted.
    """
    missing = [str(path) for path in config.makes if not path.exists()]
    if not missing:
        stamp: dict[str, Any] = {"command": list(config.command), "read": _digests(config.reads)}
        write_json(stamp_path(out, number), {**stamp, "made": _digests(config.makes), "finished": now()})
    return missing


def _digests(paths: tuple[Path, ...]) -> dict[str, str | None]:
    return {str(path): _digest(path) for path in paths}


def _digest(path: Path) -> str | None:
    """Return the digest of a file, or of all files of a folder; None where there is nothing."""
    if path.is_file():
        return digest_file(path)
    if not path.is_dir():
        return None
    files = sorted(one for one in path.rglob("*") if one.is_file() and "__pycache__" not in one.parts)
    return digest_value({str(one.relative_to(path)): digest_file(one) for one in files})
