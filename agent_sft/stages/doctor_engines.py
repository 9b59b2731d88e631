"""The doctor's look at the engines: their environment, DeepSpeed, and libraries that may not load."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from agent_sft.engines.deepspeed.config import DeepSpeedConfig, read_config, validate
from agent_sft.engines.environments import call_inside
from agent_sft.engines.llamafactory.facts import INSIDE
from agent_sft.errors import UserError, WorkFailed
from agent_sft.stages.doctor_case import Case, Finding, failed

PROBE = INSIDE / "probe.py"
WRONG_GRADIENTS = ((0, 17, 6), (0, 18, 2))
"""First and last DeepSpeed whose ZeRO-2 computes wrong gradients."""


def environment(case: Case) -> Iterator[Finding]:
    """What is installed for the training?"""
    if case.python is None:
        yield Finding("warn", "environment", "the train environment is not installed", "agent-sft setup train")
    elif not case.quick:
        installed = ", ".join(f"{name} {version}" for name, version in case.versions.items() if version)
        if case.versions.get("llamafactory") is None:
            yield Finding("fail", "environment", f"LLaMA-Factory is not installed in {case.python}")
        else:
            yield Finding("ok", "environment", f"{installed} in {case.python}")


def torch_sees(case: Case) -> Iterator[Finding]:
    """Does torch see the GPUs that the driver shows?"""
    if case.python is None:
        return
    try:
        seen = call_inside(case.python, PROBE, "torch", timeout=60)
    except WorkFailed as error:
        yield Finding("fail", "torch", str(error))
        return
    if "torch" in seen["errors"]:
        yield Finding("fail", "torch", seen["errors"]["torch"])
    elif seen["gpus"] != len(case.gpus):
        yield Finding(
            "fail" if not seen["gpus"] else "warn",
            "torch",
            f"sees {seen['gpus']} GPUs, the driver {len(case.gpus)}",
            "a driver that is older than torch's CUDA is the usual reason",
        )


def deepspeed(case: Case) -> tuple[DeepSpeedConfig | None, list[Finding]]:
    """Does the DeepSpeed configuration, if any, fit the settings and the machine?"""
    value = case.arguments.get("deepspeed")
    if not isinstance(value, str):
        return None, []
    try:
        config = read_config(Path(value), case.arguments, world_size=case.processes * case.nodes)
        if not case.quick and case.python is not None:
            validate(Path(value), case.python, case.versions.get("deepspeed"))
    except UserError as error:
        return None, [failed("DeepSpeed", error)]
    findings = [Finding("ok", "DeepSpeed", f"{value}: ZeRO stage {config.stage}{_offloaded(config)}")]
    version = case.versions.get("deepspeed")
    if config.stage == 2 and version and WRONG_GRADIENTS[0] <= _numbers(version) <= WRONG_GRADIENTS[1]:
        message = f"DeepSpeed {version} computes wrong gradients with ZeRO stage 2"
        findings.append(Finding("fail", "DeepSpeed", message, "install another version, or use stage 3"))
    zero = config.raw["zero_optimization"]
    if config.stage == 2 and zero.get("overlap_comm") is True:
        message = "overlap_comm with ZeRO stage 2 is known for losses of 0 and NaN"
        findings.append(Finding("warn", "DeepSpeed", message, 'write "overlap_comm": false'))
    if config.offload_optimizer is not None or not case.gpus:
        findings += _compiler(case)
    return config, findings


def _offloaded(config: DeepSpeedConfig) -> str:
    parts = {"optimizer": config.offload_optimizer, "parameters": config.offload_param}
    offloaded = [f"{name} on {device}" for name, device in parts.items() if device]
    return f", {', '.join(offloaded)}" if offloaded else ""


def _compiler(case: Case) -> Iterator[Finding]:
    """DeepSpeed compiles its CPU optimizer, and without GPUs its communication, when it first needs them."""
    path = os.pathsep.join([str(case.python.parent), os.environ.get("PATH", "")]) if case.python else None
    compiler = os.environ.get("CXX", "c++")
    missing = [tool for tool in ("ninja", compiler) if shutil.which(tool, path=path) is None]
    if missing:
        message = f"DeepSpeed compiles code at the start, and there is no {' and no '.join(missing)}"
        yield Finding("fail", "compiler", message, "install ninja and a C++ compiler (g++)")
    elif not case.quick:
        yield Finding("ok", "compiler", f"ninja and {compiler}")


def libraries(case: Case) -> Iterator[Finding]:
    """Are flash-attn and liger-kernel there where the settings ask for them?"""
    arguments = case.arguments
    flash = arguments.get("flash_attn") == "fa2"
    has_flash = case.versions.get("flash-attn") is not None
    if flash and case.python is not None and not has_flash:
        message = "flash-attn is not installed: LLaMA-Factory goes on without it"
        yield Finding("warn", "flash-attn", message, "install it, or --set flash_attn=auto")
    if flash and any((gpu.compute_capability or 8) < 8 for gpu in case.gpus):
        yield Finding(
            "fail", "flash-attn", "runs on GPUs of compute capability 8.0 and newer only", "--set flash_attn=sdpa"
        )
    if arguments.get("enable_liger_kernel"):
        if case.python is not None and case.versions.get("liger-kernel") is None:
            message = "enable_liger_kernel is on, but liger-kernel is not installed: LLaMA-Factory stops"
            yield Finding("fail", "liger", message, "install liger-kernel, or --set enable_liger_kernel=false")
        if not case.gpus:
            yield Finding(
                "fail",
                "liger",
                "enable_liger_kernel is on, but its kernels need a GPU",
                "--set enable_liger_kernel=false",
            )
    if arguments.get("neat_packing") and not (flash and has_flash):
        cutoff = int(arguments.get("cutoff_len", 2048))
        if cutoff % 8:
            message = f"neat_packing without flash-attn crashes at a cutoff_len that is no multiple of 8 ({cutoff})"
            yield Finding("fail", "packing", message, f"--cutoff-len {cutoff - cutoff % 8}")
        elif not case.quick:
            yield Finding(
                "warn",
                "packing",
                "neat_packing without flash-attn builds a mask of cutoff_len x cutoff_len",
                "--set flash_attn=fa2",
            )
    if not case.quick and case.python is not None:
        yield from _imports(case)


def _imports(case: Case) -> Iterator[Finding]:
    """Installed is not loadable: a library built for another torch breaks when the training imports it."""
    modules = {"flash-attn": "flash_attn", "liger-kernel": "liger_kernel.transformers"}
    wanted = {name: module for name, module in modules.items() if case.gpus and case.versions.get(name)}
    if not wanted or case.python is None:
        return
    try:
        errors = call_inside(case.python, PROBE, *wanted.values(), timeout=60)["errors"]
    except WorkFailed as error:
        yield Finding("warn", "libraries", str(error))
        return
    for name, module in wanted.items():
        if module in errors:
            yield Finding(
                "fail", name, f"is installed but cannot be loaded: {errors[module]}", "reinstall it for this torch"
            )
        else:
            yield Finding("ok", name, f"{case.versions[name]} loads")


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, `0.18.2+cu12` as (0, 18, 2)."""
    parts = version.split("+")[0].split(".")[:3]
    return tuple(int(part) for part in parts if part.isdigit())
