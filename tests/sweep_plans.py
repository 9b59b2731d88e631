"""What the tests of sweeps share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from agent_sft.config.sweep import SweepConfig
from agent_sft.config.sweep_file import read_sweep
from agent_sft.report.sweep.record import JobRecord, SweepRecord, write_record
from agent_sft.sweep.graph import SweepPlan
from agent_sft.sweep.plan import build_plan

TASK = {"evaluator": "tasks", "task": "tasks/tasks.jsonl"}
"""An evaluator that talks to a served model."""


def write_sweep(folder: Path, **keys: Any) -> Path:
    """Write a sweep file with an evaluator and these keys."""
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({"name": "trial", "evaluators": [TASK], **keys}, sort_keys=False), encoding="utf-8")
    return path


def read(folder: Path, **keys: Any) -> SweepConfig:
    """Write a sweep file and read it."""
    return read_sweep(write_sweep(folder, **keys), {})


def plan_of(folder: Path, **keys: Any) -> SweepPlan:
    """Write a sweep file and plan it."""
    return build_plan(read(folder, **keys))


def make_files(folder: Path, *names: str) -> None:
    """Make data files of one conversation each."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        turns = [{"from": "human", "value": f"Hello from {name}."}, {"from": "gpt", "value": "Hello."}]
        path.write_text(json.dumps([{"conversations": turns}]), encoding="utf-8")


def make_model(folder: Path, **config: Any) -> None:
    """Make what looks like a model's folder to a plan: it has no weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["Qwen2ForCausalLM"], **config}), encoding="utf-8")


def make_weights(folder: Path) -> None:
    """Make a whole, empty safetensors file: a header without tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


def make_record(plan: SweepPlan, jobs: list[JobRecord]) -> None:
    """Write what is known of a sweep in which these jobs ran."""
    record = SweepRecord(
        name=plan.config.name,
        question=None,
        varied=None,
        baseline=plan.baseline,
        evaluators=list(plan.evaluators),
        gpu_price=None,
        started="2030-01-01T00:00:00+00:00",
        updated="2030-01-01T00:00:00+00:00",
        finished=None,
        command=[],
        folder=".",
        settings={},
        machine={},
        versions={},
        jobs=jobs,
        variants=[],
    )
    write_record(plan.out, record)
