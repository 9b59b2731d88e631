"""Dependencies point one way, and engines stay out of the package."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from tests.conftest import ROOT

HEIGHT = {
    "__init__": 0,
    "errors": 1,
    "bootstrap": 1,
    "files": 2,
    "registry": 2,
    "config": 3,
    "engines": 4,
    "data": 4,
    "evals": 4,
    "runs": 4,
    "stages": 5,
    "report": 5,
    "sweep": 6,
    "distill": 6,
    "experiment": 6,
    "planning": 7,
    "wizard": 7,
    "jobs": 8,
    "client": 9,
    "cli": 10,
    "__main__": 11,
}
"""A module may import its own part and parts that are lower; parts of the same height do not know each other."""

TRANSFORMERS = {"numpy", "pyarrow", "torch", "transformers", "tokenizers", "datasets", "huggingface_hub", "safetensors"}
INSIDE = {
    "llamafactory": {"deepspeed", "llamafactory", "peft", "yaml", *TRANSFORMERS},
    "deepspeed": {"deepspeed", "pydantic", "torch"},
    "inspect": {"inspect_ai"},
    "ray": {"ray"},
    "slurm": {"ray"},
    "vllm": {"torch", "vllm", "huggingface_hub"},
    "forks": set(),
}
"""What programs that run inside an engine's environment may import, beside the standard library and each other."""

DEPENDENCIES = {
    "click",
    "dotenv",
    "fsspec",
    "httpx",
    "jsonschema",
    "msgspec",
    "numpy",
    "orjson",
    "psutil",
    "questionary",
    "pydantic",
    "referencing",
    "yaml",
    "rich",
    "scipy",
    "zstandard",
}
"""What the package may import: the dependencies that pyproject.toml declares, by their import names."""


def imported(source: str) -> set[str]:
    """Return the full names of all modules that a source imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            # `from agent_sft import files` names a part only in its second half.
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def wrong_imports(path: PurePosixPath, source: str) -> list[str]:
    """Return what a module at `path` inside the package imports but must not."""
    if "inside" in path.parts:
        beside = {other.stem for other in (ROOT / "agent_sft" / path.parent).glob("*.py")}
        allowed = sys.stdlib_module_names | INSIDE[path.parts[1]] | beside
        return sorted(name for name in imported(source) if name.split(".")[0] not in allowed)
    part = path.parts[0].removesuffix(".py")
    wrong = []
    for name in imported(source):
        top, *below = name.split(".")
        if top == "agent_sft":
            other = below[0] if below[0] in HEIGHT else "__init__"
            if other != part and HEIGHT[other] >= HEIGHT[part]:
                wrong.append(name)
        elif top not in sys.stdlib_module_names | DEPENDENCIES:
            wrong.append(name)
    return sorted(wrong)


def package_modules(repo: Path) -> list[Path]:
    return sorted((repo / "agent_sft").rglob("*.py"))


def test_every_module_imports_only_what_lies_below_it(repo: Path) -> None:
    modules = package_modules(repo)
    assert len(modules) > 20
    found = {}
    for module in modules:
        path = PurePosixPath(module.relative_to(repo / "agent_sft"))
        wrong = wrong_imports(path, module.read_text(encoding="utf-8"))
        if wrong:
            found[str(path)] = wrong
    assert not found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("stages/train.py", "from agent_sft.cli.show import say"),
        ("stages/train.py", "def late():\n    import agent_sft.sweep.plan"),
        ("data/checks.py", "from agent_sft.engines.environments import engine_python"),
        ("config/sft.py", "from agent_sft import runs"),
        ("errors.py", "from agent_sft.files import write_json"),
        ("engines/llamafactory/facts.py", "import torch"),
        ("data/formats.py", "import pandas as pd"),
        ("engines/llamafactory/inside/train.py", "from agent_sft.files import write_json"),
        ("engines/deepspeed/inside/check.py", "import llamafactory"),
    ],
)
def test_an_import_the_wrong_way_is_found(path: str, source: str) -> None:
    assert wrong_imports(PurePosixPath(path), source)


def test_declared_dependencies_are_the_allowed_ones(repo: Path) -> None:
    declared = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    imported_as = {"pyyaml": "yaml", "python-dotenv": "dotenv"}
    assert {imported_as.get(name, name) for name in declared} == DEPENDENCIES


def test_the_command_line_starts_without_its_heavy_imports() -> None:
    program = "import sys, agent_sft.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "click" in loaded
    assert not loaded & {"pydantic", "rich", "orjson", "yaml", "psutil", "numpy", "scipy"}
