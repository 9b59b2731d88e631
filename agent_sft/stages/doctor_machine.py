"""The doctor's look at the machine: GPUs, ports, shared memory, the place of the output."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from agent_sft.engines.llamafactory.memory import GIB
from agent_sft.files import read_json
from agent_sft.stages.doctor_case import Case, Finding
from agent_sft.stages.doctor_fit import existing_parent, gib

SHM = Path("/dev/shm")  # noqa: S108
SHM_BYTES = GIB
"""Shared memory that several processes on one machine get by with; a container starts with 64 MiB."""


def devices(case: Case) -> Iterator[Finding]:
    """Are there GPUs, one for each process, and do they train in the precision asked for?"""
    half = next((name for name in ("bf16", "fp16", "pure_bf16") if case.arguments.get(name)), None)
    if not case.gpus:
        if half and not case.arguments.get("use_cpu"):
            yield Finding(
                "fail", "GPUs", f"there is no GPU, and {half} is on: the trainer refuses that", f"--set {half}=false"
            )
        else:
            yield Finding(
                "ok" if case.quick else "warn", "GPUs", "none: training runs on the CPU, for small models only"
            )
        return
    names = ", ".join(f"{gpu.index}: {gpu.name}" for gpu in case.gpus)
    if case.processes > len(case.gpus):
        yield Finding(
            "fail",
            "GPUs",
            f"{case.processes} processes, but {len(case.gpus)} visible GPUs ({names}): each needs its own",
            f"--nproc-per-node {len(case.gpus)}",
        )
    else:
        yield Finding("ok", "GPUs", names)
    old = [gpu for gpu in case.gpus if gpu.compute_capability is not None and gpu.compute_capability < 8]
    if half in ("bf16", "pure_bf16") and old:
        yield Finding(
            "warn",
            "precision",
            f"{old[0].name} has no bfloat16 arithmetic: it is emulated, slowly",
            "--set bf16=false --set fp16=true",
        )
    elif half is None:
        yield Finding(
            "warn",
            "precision",
            "neither bf16 nor fp16 is on: training in float32, several times slower",
            "--set bf16=true",
        )


def meeting(case: Case) -> Iterator[Finding]:
    """Is the port of machine 0 usable at which the processes find each other?"""
    if case.master_port is None:
        return
    address = case.master_addr or "127.0.0.1"
    where = f"{address}:{case.master_port}"
    if case.node_rank == 0:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", case.master_port))
            except OSError as error:
                fix = "choose another --master-port, on every machine"
                yield Finding("fail", "port", f"{case.master_port} cannot be used: {error.strerror}", fix)
                return
        if not case.quick:
            yield Finding("ok", "port", f"{case.master_port} is free")
    elif not case.quick:
        try:
            socket.create_connection((address, case.master_port), timeout=2).close()
        except socket.gaierror:
            yield Finding("fail", "port", f"the address of machine 0 is not known here: {address}", "--master-addr")
        except OSError as error:
            reason = error.strerror or str(error)
            yield Finding("warn", "port", f"machine 0 does not answer at {where} yet ({reason})", "start machine 0")
        else:
            yield Finding("ok", "port", f"machine 0 answers at {where}")


def shared_memory(case: Case) -> Iterator[Finding]:
    """Several processes on one machine need room in /dev/shm."""
    if case.quick or case.processes == 1 or not SHM.is_dir():
        return
    size = shutil.disk_usage(SHM).total
    if size < SHM_BYTES:
        message = f"{SHM} has {gib(size)}: processes on one machine talk through it, and NCCL fails when it is full"
        yield Finding("warn", "shared memory", message, "start the container with --shm-size=16g or --ipc=host")
    else:
        yield Finding("ok", "shared memory", f"{SHM} has {gib(size)}")


def data(case: Case) -> Iterator[Finding]:
    """Is there what the user's own settings train on? Without a dataset_dir of theirs it is the input."""
    folder = case.arguments.get("dataset_dir")
    if not isinstance(folder, str) or folder.startswith(("ONLINE", "REMOTE:")):
        return
    names = case.arguments.get("dataset", ())
    wanted = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    info = read_json(Path(folder) / "dataset_info.json")
    missing = [str(name) for name in wanted if not isinstance(info, dict) or name not in info]
    if missing:
        yield Finding(
            "fail",
            "data",
            f"the settings train on {', '.join(missing)} in {folder}, where dataset_info.json does not name it",
            "leave dataset_dir out of the YAML to train on the input, or make it with prepare_sft_data.py",
        )
    elif not case.quick:
        yield Finding("ok", "data", f"{', '.join(wanted)} in {folder}")


def place(case: Case) -> Iterator[Finding]:
    """Can the output be written at all?"""
    parent = existing_parent(case.output_dir)
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        yield Finding("fail", "output", f"{parent} cannot be written to", "choose another --output-dir")
