"""What the tests of distillation share: prompts, a teacher, and the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.provider import KEY, Answer, Provider, Request, provider

SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}
VARIABLE = "PYTEST_TEACHER_KEY"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, given: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    return path


def sums(folder: Path, count: int) -> Path:
    return write_rows(folder / "sums.jsonl", [{"prompt": f"What is {number} + 1?"} for number in range(count)])


def asked(request: Request) -> str:
    return str(request["messages"][-1]["content"])


def adds(request: Request) -> str:
    return f"It is {int(asked(request).split()[2]) + 1}."


@contextmanager
def teaching(answer: Answer, folder: Path) -> Iterator[tuple[Provider, dict[str, str]]]:
    """A provider, and the variables with which it is asked."""
    with provider(answer) as server:
        yield server, {VARIABLE: KEY, "AGENT_SFT_STORE": str(folder / "store")}


def options(server: Provider, prompts: Path, *more: str, to: str = "sums@0.1.0") -> list[str]:
    out = prompts.parent / "out"
    return [
        *("distill", str(prompts), "--teacher", server.url, "--key-variable", VARIABLE, "--to", to),
        *("--out", str(out), "--request-timeout", "2", *more),
    ]
