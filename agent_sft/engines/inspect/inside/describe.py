"""Says what a task of Inspect consists of.

Payload: {"task": name or file, "args": {...}, "user": model name or null}
Result: {"spec", "name", "version", "args", "samples": [{"id", "family"}]}, or one of
{"unknown": [names there are]}, {"wrong_args": message, "accepts": [...]}, {"failed": message}, {"several": [names]},
{"user": message} where the customer's model cannot be used.
"""

import importlib
import inspect
import json
import os
import sys
from typing import Any

from inspect_ai._eval.loader import _load_task_specs, load_tasks, parse_spec_str
from inspect_ai._util.registry import registry_find, registry_info, registry_lookup
from inspect_ai.model import get_model


def accepted(task: Any) -> dict[str, Any]:
    """Return the arguments that a task takes, each with its default."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(task).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def known_tasks(wanted: str) -> list[str]:
    """Return the names of the tasks in the package that `wanted` names, or in all that are registered."""
    package = wanted.split("/")[0]
    try:
        importlib.import_module(f"{package}._registry")
    except ImportError:
        package = ""
    names = [registry_info(task).name for task in registry_find(lambda info: info.type == "task")]
    return sorted(name for name in names if name.startswith(package))


def load(task: str, args: dict[str, Any]) -> dict[str, Any]:
    """Return what the task consists of, or what is wrong."""
    found = registry_lookup("task", task)
    if found is None:
        file, name = parse_spec_str(task)
        if file is None or not file.is_file():
            return {"unknown": known_tasks(task)}
        os.chdir(file.parent)
        sys.path.insert(0, str(file.parent))
        try:
            names = _load_task_specs(file)
        except Exception as error:
            return {"failed": f"{type(error).__name__}: {error}"}
        if name is None and len(names) != 1:
            return {"several": names}
        name = name or names[0]
        if name not in names:
            return {"unknown": [f"{file.name}@{known}" for known in names]}
        task, found = f"{file}@{name}", registry_lookup("task", name)
    accepts = accepted(found)
    if wrong := sorted(args.keys() - accepts.keys()):
        return {"wrong_args": wrong[0], "accepts": sorted(accepts)}
    if accepts.get("shuffle") is True:
        # Unseeded: without this, the first tasks are others each time.
        args = {"shuffle": False, **args}
    try:
        loaded = load_tasks([task], args)[0]
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}
    samples = [
        {"id": sample.id if sample.id is not None else number, "family": (sample.metadata or {}).get("family")}
        for number, sample in enumerate(loaded.dataset, start=1)
    ]
    return {"spec": task, "name": loaded.name, "version": str(loaded.version), "args": args, "samples": samples}


def main() -> None:
    """Describe the task."""
    asked = json.load(sys.stdin)
    found = load(asked["task"], asked["args"])
    if asked["user"] is not None:
        try:
            get_model(asked["user"])
        except Exception as error:
            found = {"user": " ".join(str(error).split())}
    print(json.dumps(found), file=sys.__stdout__)


if __name__ == "__main__":
    main()
