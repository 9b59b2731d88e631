"""What a task of Inspect consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sft.engines.cache import cached
from agent_sft.engines.environments import call_inside, engine_versions
from agent_sft.engines.forks.sharing import Shared
from agent_sft.errors import UserError, nearest
from agent_sft.files import digest_file, digest_value

INSIDE = Path(__file__).with_name("inside")
SHARED = Shared(
    "eval", INSIDE / "imported.py", ("AGENT_API_KEY", "CUSTOMER_API_KEY", "INSPECT_DISPLAY", "OPENAI_API_KEY", "VLLM_")
)
DISTRIBUTIONS = ("inspect-ai", "inspect-evals", "openai")
DESCRIBE_SECONDS = 600.0
MAX_SOURCES = 500
"""Files of a task's folder that its digest covers; a folder with more is somebody's home."""


@dataclass(frozen=True)
class InspectTask:
    """A task, by name or in a file, with its arguments."""

    spec: str
    """As Inspect finds it from anywhere."""
    name: str
    version: str
    args: Mapping[str, Any]
    """Those given, and those without which its samples would be others each time."""
    samples: tuple[str, ...]
    """The names of its samples, in order."""
    families: Mapping[str, str]
    digest: str | None
    """Of the files beside a task that is a file; None for one of a package, which has a version."""


def inspect_versions(python: Path) -> dict[str, str]:
    """Return the versions of Inspect and of its tasks.

    Raises:
        UserError: Inspect is not installed there.
    """
    versions = engine_versions(python, DISTRIBUTIONS)
    if versions["inspect-ai"] is None:
        raise UserError(
            "Inspect is not installed there", where=str(python), fix="point AGENT_SFT_EVAL_PYTHON to a Python with it"
        )
    return {name: version for name, version in versions.items() if version is not None and name != "openai"}


def describe_task(
    python: Path, task: str, args: Mapping[str, Any], versions: Mapping[str, str], user: str | None = None
) -> InspectTask:
    """Return what a task consists of.

    Args:
        python: the eval environment's.
        task: `package/name`, `file.py` or `file.py@name`.
        args: its arguments.
        versions: of the engine, by which the answer is kept.
        user: Inspect's name of a provider's model that will play the customer; its client must be installed.

    Raises:
        UserError: there is no such task or argument, with the nearest name; or the task cannot be loaded.
    """
    file = task_file(task)
    digest = _digest_beside(file) if file is not None else None
    asked = {"task": str(file.resolve()) + task[len(str(file)) :] if file else task, "args": dict(args), "user": user}
    program = INSIDE / "describe.py"
    key = {**asked, "versions": dict(versions), "digest": digest, "program": digest_file(program)}
    found = cached("inspect-tasks", key, lambda: _described(python, program, asked, task))
    samples = tuple(str(sample["id"]) for sample in found["samples"])
    if len(set(samples)) != len(samples):
        raise UserError("two of its samples have the same id", where=task)
    families = {str(sample["id"]): str(sample["family"]) for sample in found["samples"] if sample["family"]}
    return InspectTask(found["spec"], found["name"], found["version"], found["args"], samples, families, digest)


def task_file(task: str) -> Path | None:
    """Return the file that a task is named by; None for a name in a package."""
    path = task.rpartition("@")[0] or task
    return Path(path) if path.endswith(".py") else None


def _described(python: Path, program: Path, asked: dict[str, Any], task: str) -> Any:
    file = task_file(task)
    if file is not None and not file.is_file():
        raise UserError("no such file", where=str(file))
    found = call_inside(python, program, payload=asked, timeout=DESCRIBE_SECONDS, started=SHARED.forked)
    if "unknown" in found:
        names = found["unknown"]
        hint = nearest(task, names) or f"there are {len(names)}, such as {', '.join(names[:3])}"
        raise UserError(f"Inspect has no task '{task}'", where="--task", fix=hint)
    if "wrong_args" in found:
        name, accepts = found["wrong_args"], found["accepts"]
        hint = nearest(name, accepts) or (f"it takes {', '.join(accepts)}" if accepts else "it takes none")
        raise UserError(f"the task has no argument '{name}'", where=task, fix=hint)
    if "several" in found:
        raise UserError(
            f"the file has several tasks: {', '.join(found['several'])}", where=task, fix=f"name one: {task}@NAME"
        )
    if "user" in found:
        raise UserError(f"Inspect cannot use it: {found['user']}", where="--user-model")
    if "failed" in found:
        raise UserError(f"the task cannot be loaded: {found['failed']}", where=task)
    return found


def _digest_beside(file: Path) -> str:
    """Return the digest of a task's file and of the code and data beside it."""
    if not file.is_file():
        return ""
    beside = (path for path in sorted(file.parent.rglob("*")) if path.suffix in (".py", ".json", ".jsonl", ".yaml"))
    chosen = [path for path in beside if "__pycache__" not in path.parts][:MAX_SOURCES]
    return digest_value({str(path.relative_to(file.parent)): digest_file(path) for path in {file, *chosen}})
