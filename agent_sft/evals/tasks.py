"""Reads `tasks.jsonl`: what a model is asked, and how its answer is verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agent_sft.errors import UserError, nearest
from agent_sft.evals.verifiers.contract import Verifier
from agent_sft.evals.verifiers.registry import make_verifier

TASKS = "tasks.jsonl"

KEYS = ("task_id", "instruction", "messages", "system", "tools", "verifier", "folder", "family", "metadata")
ROLES = ("system", "user", "assistant", "tool")
SHOWN = 10
"""How many bad rows are listed."""


@dataclass(frozen=True)
class Task:
    """One task."""

    id: str
    messages: tuple[dict[str, Any], ...]
    """In the form of the OpenAI chat API; the model's turn is next."""
    tools: tuple[dict[str, Any], ...]
    """Each `{"type": "function", "function": {...}}`."""
    verifier: Verifier
    family: str | None = None


def tasks_file(place: Path) -> Path:
    """Return the file of tasks that a folder holds, or that is named itself.

    Raises:
        UserError: there is none.
    """
    path = place / TASKS if place.is_dir() else place
    if not path.is_file():
        raise UserError(f"there is no {TASKS}", where=str(place), fix=f"name a folder that holds {TASKS}")
    return path


def read_tasks(place: Path) -> list[Task]:
    """Return the tasks of a folder that holds `tasks.jsonl`, or of such a file.

    Raises:
        UserError: there are none, or rows cannot be used; all of those are named with their line.
    """
    path = tasks_file(place)
    tasks: dict[str, Task] = {}
    wrong: list[str] = []
    rows = 0
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        rows += 1
        try:
            task = _task(line, path.parent)
            if task.id in tasks:
                raise UserError(f"a task before it is called '{task.id}' too")
        except UserError as error:
            wrong.append(f"row {number}: {error.what}" + (f" ({error.fix})" if error.fix else ""))
            continue
        tasks[task.id] = task
    if wrong:
        listed = "".join(f"\n  {line}" for line in wrong[:SHOWN])
        further = f"\n  and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
        raise UserError(f"{len(wrong):,} of {rows:,} rows cannot be used{listed}{further}", where=str(path))
    if not tasks:
        raise UserError("the file is empty", where=str(path), fix="write a task a line, as JSON")
    return list(tasks.values())


def _task(line: bytes, folder: Path) -> Task:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise UserError(f"not JSON: {error}") from error
    if not isinstance(row, Mapping):
        raise UserError("is no object")
    for key in row:
        if key not in KEYS:
            raise UserError(f"there is no key '{key}'", fix=nearest(key, KEYS) or f"there are {', '.join(KEYS)}")
    if "verifier" not in row:
        raise UserError("has no 'verifier'")
    return Task(
        id=_identity(row.get("task_id")),
        messages=_messages(row),
        tools=tuple(_tools(row.get("tools"))),
        verifier=make_verifier(row["verifier"], where="", folder=folder / (_text(row, "folder", None) or "")),
        family=_text(row, "family", None),
    )


def _identity(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise UserError("'task_id' is missing, or no text")
    return str(value)


def _text(row: Mapping[str, Any], key: str, default: str | None) -> str | None:
    value = row.get(key, default)
    if value is not None and not isinstance(value, str):
        raise UserError(f"'{key}' is no text")
    return value


def _messages(row: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    instruction, system = _text(row, "instruction", None), _text(row, "system", None)
    given = row.get("messages")
    if (instruction is None) == (given is None):
        raise UserError("needs either 'instruction' or 'messages'")
    head = [{"role": "system", "content": system}] if system else []
    if instruction is not None:
        return (*head, {"role": "user", "content": instruction})
    if not isinstance(given, list) or not given:
        raise UserError("'messages' is no array of messages")
    for number, message in enumerate(given, start=1):
        _check_message(message, f"message {number}")
    if given[-1]["role"] not in ("user", "tool"):
        raise UserError(
            f"the last message is of the role '{given[-1]['role']}'", fix="the model answers a user or a tool"
        )
    return (*head, *given)


def _check_message(message: Any, label: str) -> None:
    if not isinstance(message, Mapping):
        raise UserError(f"{label} is no object")
    role = message.get("role")
    if role not in ROLES:
        raise UserError(
            f"{label} has the role {role!r}", fix=nearest(str(role), ROLES) or f"roles are {', '.join(ROLES)}"
        )
    content = message.get("content")
    if content is None and role == "assistant" and message.get("tool_calls"):
        return
    if not isinstance(content, str):
        raise UserError(f"{label} has no 'content' that is a text")


def _tools(value: Any) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise UserError("'tools' is no array")
    found: dict[str, dict[str, Any]] = {}
    for number, tool in enumerate(value, start=1):
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(name := function.get("name"), str) or not name:
            raise UserError(f"tool {number} has no 'name'")
        if name in found:
            raise UserError(f"two tools are called '{name}'")
        found[name] = {"type": "function", "function": dict(function)}
    return list(found.values())
