"""The model that a training starts from, made on the spot for `--model tiny` or a YAML file that describes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent_sft import __version__
from agent_sft.engines.llamafactory.tiny import make_tiny_model
from agent_sft.files import digest_value
from agent_sft.runs.directory import Stamp
from agent_sft.stages.plan import TrainingPlan
from agent_sft.stages.reporting import Reporter
from agent_sft.stages.stage import Stage


def base_stage(plan: TrainingPlan, data_digest: str) -> Stage:
    """Return the stage that makes the tiny model."""
    inputs = {"data": data_digest, "seed": plan.arguments["seed"], "like": plan.tiny.model_dump(mode="json")}
    return Stage("base", {**inputs, "agent-sft": __version__})


def make_base(plan: TrainingPlan, prepared: Stamp, reporter: Reporter) -> None:
    """Make the tiny model from the prepared data, unless that is done or another model is asked for."""
    if not plan.is_tiny:
        return
    data = plan.data_dir / f"{plan.dataset}.jsonl"
    stage = base_stage(plan, prepared.outputs["files"][f"data/{data.name}"]["digest"])
    if stage.done(plan.run, plan.elsewhere) is not None:
        return
    python = plan.python
    assert python is not None

    def make() -> tuple[list[Path], dict[str, Any]]:
        reporter.say(f"base: making a tiny random model with a tokenizer from {data.name}")
        make_tiny_model(python, data, plan.base_dir, seed=int(plan.arguments["seed"]), like=plan.tiny)
        return sorted(path for path in plan.base_dir.iterdir() if path.is_file()), {}

    stage.perform(plan.run, make)


def model_identity(plan: TrainingPlan, base: Stamp | None) -> str:
    """Return what the training starts from: content for a local model, the name for one on the hub.

    Weights of a local folder count by name, size and time of change: reading tens of gigabytes before every
    command would cost more than it protects from.
    """
    if base is not None:
        return digest_value(base.outputs["files"])
    name = str(plan.arguments["model_name_or_path"])
    folder = Path(name)
    if not folder.is_dir():
        return name
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".bin", ".jinja"))
    return digest_value([[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files])
