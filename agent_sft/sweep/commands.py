"""The public command lines of a sweep's jobs, as a person would type them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from agent_sft.config.evaluation import EvaluationConfig, LimitsConfig
from agent_sft.config.sft import SFTConfig

PROGRAM = "agent-sft"
_NOT_FLAGS = ("input", "given", "dry_run", "fresh")


def training_command(config: SFTConfig) -> tuple[str, ...]:
    """Return the command that trains with these options; those that were not given are left to their defaults."""
    words = [PROGRAM, "sft", *config.input]
    for name in config.given:
        if name not in _NOT_FLAGS:
            words += _flag(name, getattr(config, name))
    return tuple(words)


def evaluation_command(config: EvaluationConfig) -> tuple[str, ...]:
    """Return the command that runs an evaluation with these options, defaults left out."""
    words = [PROGRAM, "eval", "run", "--evaluator", config.evaluator, "--task", config.task]
    words += ["--model", config.model, "--out", str(config.out)]
    params = dict(config.params)
    for name in ("tau2_dir", "script"):
        if name in params:
            words += _flag(name, params.pop(name))
    for name, field in EvaluationConfig.model_fields.items():
        value = getattr(config, name)
        if name in ("model", "evaluator", "task", "out", "limits", "serve", "params") or value == field.get_default():
            continue
        words += _flag("task_id" if name == "task_ids" else name, value)
    for name, field in LimitsConfig.model_fields.items():
        if (value := getattr(config.limits, name)) != field.get_default():
            words += _flag(name, value)
    words += [word for key, value in params.items() for word in ("--param", f"{key}={_yaml(value)}")]
    words += [word for key, value in config.serve.items() for word in ("--serve", f"{key}={_yaml(value)}")]
    return tuple(words)


def runnable(command: Sequence[str]) -> list[str]:
    """Return a job's command as it is started: `agent-sft` and `python` are those of this process."""
    if command[0] == PROGRAM:
        # -P: a file called like a module of ours, in the folder one happens to be in, is not imported.
        return [sys.executable, "-P", "-m", "agent_sft", *command[1:]]
    return [sys.executable if command[0] == "python" else command[0], *command[1:]]


def _flag(name: str, value: Any) -> Iterator[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is True:
        yield flag
    elif isinstance(value, dict):
        yield from (word for key, one in value.items() for word in (flag, f"{key}={_yaml(one)}"))
    elif isinstance(value, tuple):
        yield from (word for one in value for word in (flag, str(one)))
    elif value is not False and value is not None:
        yield from (flag, _text(value))


def _text(value: Any) -> str:
    """Return a value as people write it: `3`, not `3.0`."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def _yaml(value: Any) -> str:
    """Return a value in one line of YAML, as `--set KEY=VALUE` reads it."""
    if isinstance(value, Path):
        value = str(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
