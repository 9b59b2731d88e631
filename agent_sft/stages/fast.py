"""`--fast`: the fast settings that this machine, model and data allow, decided once and recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent_sft import __version__
from agent_sft.engines.deepspeed.config import read_config
from agent_sft.engines.llamafactory.arguments import OPTION_KEYS, fingerprinted, read_user_yaml
from agent_sft.engines.llamafactory.fast import fast_settings, read_fast_file, with_switches
from agent_sft.engines.llamafactory.fast_machine import count_tokens, look_at_machine
from agent_sft.engines.llamafactory.memory import estimate_memory
from agent_sft.engines.llamafactory.shape import model_shape
from agent_sft.runs.directory import Stamp
from agent_sft.stages.doctor_fit import sharding_of
from agent_sft.stages.plan import TrainingPlan
from agent_sft.stages.reporting import Reporter
from agent_sft.stages.stage import Stage


def fast_stage(plan: TrainingPlan, prepared: Stamp) -> Stage:
    """Return the decision and all that it depends on."""
    return Stage(
        "fast",
        {
            "settings": fingerprinted(plan.arguments),
            "wanted": read_fast_file(),
            "given": sorted(_given(plan)),
            "data": _digest(plan, prepared) if plan.trains_on_input else None,
            "GPUs": [[gpu.name, gpu.total_bytes] for gpu in plan.gpus],
            "versions": plan.versions,
            "agent-sft": __version__,
        },
    )


def decided(plan: TrainingPlan, prepared: Stamp) -> TrainingPlan | None:
    """Return the plan with the fast settings that were decided on before; None if they were not."""
    if not plan.config.fast:
        return plan
    stamp = fast_stage(plan, prepared).finished(plan.run)
    return replace(plan, arguments={**plan.arguments, **stamp.outputs["settings"]}) if stamp else None


def decide(plan: TrainingPlan, prepared: Stamp, settings: dict[str, Any], reporter: Reporter) -> TrainingPlan:
    """Decide on the fast settings, say each decision with its reason, and return the plan that has them.

    Args:
        plan: the run.
        prepared: its prepared data.
        settings: LLaMA-Factory's settings as they would be without this, data and model named.
        reporter: told of each decision.
    """
    if (known := decided(plan, prepared)) is not None:
        return known
    python = plan.python
    assert python is not None
    machine = look_at_machine(
        python,
        str(settings["model_name_or_path"]),
        gpu_bytes=[gpu.total_bytes for gpu in plan.gpus[: plan.launch.processes]],
        compute_capability=min((gpu.compute_capability or 0 for gpu in plan.gpus), default=None),
        memory_needed=lambda changed: _memory_needed(plan, {**settings, **changed}),
    )
    lengths = count_tokens(python, settings) if plan.gpus and plan.trains_on_input else None
    switches = fast_settings(settings, machine, lengths, given=_given(plan))
    for switch in switches:
        reporter.say(switch.line)
    changed = with_switches({}, switches)
    fast_stage(plan, prepared).perform(plan.run, lambda: ([], {"settings": changed}))
    return replace(plan, arguments={**plan.arguments, **changed})


def _digest(plan: TrainingPlan, data: Stamp) -> str:
    """Return the digest of the file that is trained on."""
    return str(data.outputs["files"][f"{plan.examples_dir.name}/{plan.dataset}.jsonl"]["digest"])


def _given(plan: TrainingPlan) -> set[str]:
    """Return the LLaMA-Factory keys that the user set."""
    config = plan.config
    flags = {key for name in config.given for key in OPTION_KEYS.get(name, ())}
    return flags | set(config.set) | (set(read_user_yaml(config.config)) if config.config else set())


def _memory_needed(plan: TrainingPlan, settings: dict[str, Any]) -> int | None:
    shape = model_shape(str(settings["model_name_or_path"]), plan.python)
    if shape is None:
        return None
    config = read_config(plan.deepspeed) if plan.deepspeed else None
    sharding = sharding_of(config, processes=plan.launch.processes, nodes=plan.launch.nodes)
    estimate = estimate_memory(shape, settings, sharding)
    return estimate.total if estimate else None
