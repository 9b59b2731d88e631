"""Sierra's tau2 as the user installed it: its program, its version, its tasks."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sft.engines.cache import cached
from agent_sft.errors import UserError, nearest
from agent_sft.files import digest_file, digest_value, read_json

HELP_SECONDS = 300.0
BASE = "base"
"""The split that is the benchmark, where a domain has splits."""
INSTALL = "docs/tau2.md says how to install it"


@dataclass(frozen=True)
class Installation:
    """One installed tau2."""

    folder: Path
    program: Path
    version: str
    options: frozenset[str]
    """The options of its `run` command: 1.x has more of them than 0.2."""

    @property
    def data(self) -> Path:
        """The folder that holds the domains."""
        return self.folder / "data" / "tau2"


def assumed_installation(folder: Path) -> Installation:
    """Return what a tau2 1.x in a folder will be like, where there is none yet."""
    options = frozenset({"--task-split-name", "--timeout", "--max-retries", "--auto-resume"})
    return Installation(folder, Path("tau2"), "1", options)


@dataclass(frozen=True)
class Domain:
    """The tasks of a domain."""

    name: str
    tasks: tuple[str, ...]
    digest: str
    """Of the file or files with the tasks."""


def find_installation(folder: Path, environment: Mapping[str, str]) -> Installation:
    """Return the tau2 in a clone of its repository.

    Raises:
        UserError: there is none, or it does not run.
    """
    if not (folder / "data" / "tau2" / "domains").is_dir():
        raise UserError(
            "is not a clone of tau2: it has no data/tau2/domains", where=f"--tau2-dir {folder}", fix=INSTALL
        )
    program = _program(folder, environment)
    version = _version(folder)
    key = {"program": str(program.resolve()), "version": version, "digest": digest_file(program)}
    options = cached("tau2-options", key, lambda: _options(program, environment))
    return Installation(folder.resolve(), program.absolute(), version, frozenset(options))


def read_domain(tau2: Installation, name: str, split: str | None) -> Domain:
    """Return the tasks of a domain, in its own order.

    Args:
        tau2: the installation.
        name: of the domain.
        split: one of its splits; None for `base` where it has that, else for all of its tasks.

    Raises:
        UserError: there is no such domain or split, with the nearest name.
    """
    folders = (path for path in (tau2.data / "domains").iterdir() if _task_files(path))
    domains = sorted(path.name for path in folders)
    if name not in domains:
        hint = nearest(name, domains) or f"there are {', '.join(domains)}"
        raise UserError(f"tau2 has no domain '{name}'", where="--task", fix=hint)
    folder = tau2.data / "domains" / name
    files = _task_files(folder)
    rows = [row for path in files for row in _rows(path)]
    splits: Any = read_json(folder / "split_tasks.json") or {}
    chosen = split or (BASE if BASE in splits else None)
    if chosen is not None and chosen not in splits:
        hint = nearest(chosen, splits) or f"there are {', '.join(splits) or 'none'}"
        raise UserError(f"the domain {name} has no split '{chosen}'", where="--param split", fix=hint)
    within = {str(task) for task in splits[chosen]} if chosen is not None else None
    tasks = tuple(str(row["id"]) for row in rows if within is None or str(row["id"]) in within)
    digests = [digest_file(path) for path in files]
    return Domain(name, tasks, digests[0] if len(digests) == 1 else digest_value(digests))


def _task_files(folder: Path) -> list[Path]:
    """Return the files with a domain's tasks: one with all of them, or in some domains of 1.x one for each."""
    whole = folder / "tasks.json"
    return [whole] if whole.is_file() else sorted((folder / "tasks").glob("task_*.json"))


def _rows(path: Path) -> list[Any]:
    content = read_json(path)
    if path.name != "tasks.json":
        content = [content] if isinstance(content, dict) else None
    rows = content.get("tasks") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise UserError("holds no tasks", where=str(path), fix=INSTALL)
    return rows


def _program(folder: Path, environment: Mapping[str, str]) -> Path:
    inside = [folder / place / "tau2" for place in (".venv/bin", "venv/bin", "bin")]
    found = next((path for path in inside if os.access(path, os.X_OK)), None)
    if found is None and (elsewhere := shutil.which("tau2", path=environment.get("PATH"))) is not None:
        found = Path(elsewhere)
    if found is None:
        raise UserError("has no program tau2 (.venv/bin/tau2)", where=f"--tau2-dir {folder}", fix=INSTALL)
    return found


def _version(folder: Path) -> str:
    path = folder / "pyproject.toml"
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8"))["project"]["version"])
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise UserError("names no version", where=str(path), fix=INSTALL) from error


def _options(program: Path, environment: Mapping[str, str]) -> list[str]:
    try:
        done = subprocess.run(
            [program, "run", "--help"],
            capture_output=True,
            text=True,
            check=False,
            timeout=HELP_SECONDS,
            stdin=subprocess.DEVNULL,
            env=dict(environment),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"does not run: {error}", where=str(program), fix=INSTALL) from error
    words = done.stdout.replace(",", " ").replace("[", " ").replace("]", " ").split()
    options = sorted({word for word in words if word.startswith("--")})
    if done.returncode != 0 or "--agent-llm" not in options:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise UserError(f"`tau2 run --help` does not say what is expected: {last}", where=str(program), fix=INSTALL)
    return options
