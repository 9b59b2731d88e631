"""Finds out in seconds what would fail in an hour."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from agent_sft.config.tiny import is_made_here
from agent_sft.engines.deepspeed.config import DeepSpeedConfig
from agent_sft.engines.environments import engine_versions
from agent_sft.engines.llamafactory.facts import load_facts
from agent_sft.engines.llamafactory.shape import model_shape
from agent_sft.engines.llamafactory.templates import expected_template
from agent_sft.errors import UserError
from agent_sft.stages.doctor_case import Case, Finding
from agent_sft.stages.doctor_engines import deepspeed, environment, libraries, torch_sees
from agent_sft.stages.doctor_fit import fit_disk, fit_memory, fit_tiny, sharding_of
from agent_sft.stages.doctor_machine import data, devices, meeting, place, shared_memory

if TYPE_CHECKING:
    from agent_sft.stages.plan import TrainingPlan

TINY_TEMPLATE = "qwen"
"""What the model made on the spot is made for."""
DISTRIBUTIONS = ("llamafactory", "torch", "transformers", "deepspeed", "flash-attn", "liger-kernel")


def diagnose(case: Case) -> list[Finding]:
    """Look for what would make a training fail on this machine.

    Returns:
        What was looked at, in the order in which it matters.
    """
    findings = [*environment(case), *devices(case)]
    if case.gpus and not case.quick:
        findings += torch_sees(case)
    config, said = deepspeed(case)
    findings += [*said, *libraries(case), *data(case), *meeting(case), *shared_memory(case), *place(case)]
    findings += _fit(case, config)
    return findings


def template(plan: TrainingPlan) -> Finding:
    """Say how the chat template goes with the model; one that does not was refused before."""
    name, model = str(plan.arguments["template"]), str(plan.arguments["model_name_or_path"])
    if plan.python is None:
        return Finding("warn", "template", f"'{name}' is unchecked until the train environment is installed")
    expected = TINY_TEMPLATE if plan.is_tiny else expected_template(model, load_facts(plan.python, plan.versions))
    if expected is None:
        return Finding(
            "warn", "template", f"nothing tells which template belongs to {model}: '{name}' is taken as it is"
        )
    if expected.removesuffix("_nothink") != name.removesuffix("_nothink"):
        return Finding("warn", "template", f"the template of {model} is '{expected}', '{name}' is used by force")
    return Finding("ok", "template", f"'{name}' belongs to {model}")


def case_of(plan: TrainingPlan, *, quick: bool) -> Case:
    """Return what a plan asks of this machine.

    Args:
        plan: the training.
        quick: look only at what takes milliseconds.
    """
    versions = dict(plan.versions)
    if plan.python is not None and any(name not in versions for name in _wanted(plan.arguments, quick)):
        versions |= engine_versions(plan.python, DISTRIBUTIONS)
    return Case(
        arguments=plan.arguments,
        processes=plan.launch.processes,
        nodes=plan.launch.nodes,
        master_addr=plan.launch.master_addr,
        master_port=plan.launch.master_port,
        node_rank=plan.launch.node_rank,
        output_dir=plan.output_dir,
        python=plan.python,
        versions=versions,
        gpus=() if plan.arguments.get("use_cpu") else plan.gpus,
        quick=quick,
    )


def refuse_what_cannot_work(plan: TrainingPlan) -> None:
    """Stop before anything is spent on a plan that cannot work here.

    Raises:
        UserError: what cannot work, and what to do about it.
    """
    found = [finding for finding in diagnose(case_of(plan, quick=True)) if finding.level == "fail"]
    if found:
        more = f" ({len(found) - 1} more: `agent-sft doctor` shows all)" if len(found) > 1 else ""
        raise UserError(f"{found[0].message}{more}", where=found[0].name, fix=found[0].fix)


def _wanted(arguments: dict[str, Any], quick: bool) -> tuple[str, ...]:
    """Return the distributions whose versions must be known."""
    if not quick:
        return DISTRIBUTIONS
    flash = ("flash-attn",) if arguments.get("flash_attn") == "fa2" else ()
    return (*flash, "liger-kernel") if arguments.get("enable_liger_kernel") else flash


def _fit(case: Case, config: DeepSpeedConfig | None) -> Iterator[Finding]:
    model = str(case.arguments.get("model_name_or_path", ""))
    if is_made_here(model):
        yield fit_tiny(case.output_dir)
        return
    shape = model_shape(model, None if case.quick else case.python)
    if shape is None:
        if not case.quick:
            message = f"not estimated: the size of {model} cannot be known from here"
            yield Finding("warn", "memory", message, "once its config.json is here or in the hub's cache, it is")
        return
    sharding = sharding_of(config, processes=case.processes, nodes=case.nodes)
    yield from fit_memory(shape, case.arguments, sharding, case.gpus)
    yield fit_disk(shape, case.arguments, sharding.stage, case.output_dir)
