"""What the doctor finds. GPUs are shown by a stand-in nvidia-smi, since the tests must run without any."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_sft.engines.llamafactory.memory import GIB
from agent_sft.runs.devices import MIB, Gpu
from agent_sft.stages import doctor_fit, doctor_machine
from agent_sft.stages.doctor import diagnose
from agent_sft.stages.doctor_case import Case, Finding
from tests.conftest import RunCli
from tests.test_devices import FIRST, SECOND, install_nvidia_smi
from tests.test_memory import QWEN3_8B

A100 = Gpu(0, FIRST, "NVIDIA A100-SXM4-80GB", 81920 * MIB, 81000 * MIB, 8.0)
V100 = Gpu(0, FIRST, "Tesla V100-SXM2-32GB", 32768 * MIB, 32000 * MIB, 7.0)

CONVERSATION = [{"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Good day"}]}]

Diagnosis = Callable[..., dict[str, Finding]]


@pytest.fixture(scope="session")
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "Qwen3-8B"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN3_8B))
    return folder


@pytest.fixture
def conversations(tmp_path: Path) -> Path:
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps(CONVERSATION))
    return path


@pytest.fixture
def said(tmp_path: Path, model: Path) -> Diagnosis:
    """What is said about a full fine-tuning of an 8B model with these changes, by name; the worst for each."""

    def ask(settings: dict[str, Any] | None = None, **changes: Any) -> dict[str, Finding]:
        arguments = {
            "model_name_or_path": str(model),
            "template": "qwen3",
            "finetuning_type": "full",
            "cutoff_len": 4096,
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 2,
            "bf16": True,
            "save_strategy": "no",
        }
        case: dict[str, Any] = {
            "arguments": arguments | (settings or {}),
            "processes": 8,
            "nodes": 1,
            "master_addr": "127.0.0.1",
            "master_port": None,
            "node_rank": 0,
            "output_dir": tmp_path / "saves" / "x",
            "python": None,
            "versions": {},
            "gpus": tuple(Gpu(i, f"GPU-{i}", A100.name, A100.total_bytes, A100.free_bytes, 8.0) for i in range(8)),
            "quick": True,
        }
        found: dict[str, Finding] = {}
        for finding in diagnose(Case(**(case | changes))):
            worse = {"ok": 0, "warn": 1, "fail": 2}
            if finding.name not in found or worse[finding.level] > worse[found[finding.name].level]:
                found[finding.name] = finding
        return found

    return ask


def zero_file(repo: Path, name: str) -> dict[str, Any]:
    return {"deepspeed": str(repo / "ds_configs" / f"{name}.json")}


def test_eight_80_gb_cards_train_8b_with_zero_2(said: Diagnosis, repo: Path) -> None:
    finding = said(zero_file(repo, "ds_zero2"))["GPU memory"]
    assert finding.level == "ok"
    assert "optimizer 11.4 GiB" in finding.message
    assert "there are 80.0 GiB" in finding.message


def test_without_deepspeed_8b_cannot_fit_and_what_would_fit_is_named(said: Diagnosis) -> None:
    finding = said()["GPU memory"]
    assert finding.level == "fail"
    assert finding.fix is not None
    assert finding.fix.startswith("--deepspeed ds_configs/ds_zero2.json would need")


def test_one_card_is_too_small_even_for_zero_2_and_offloading_is_named(said: Diagnosis) -> None:
    finding = said(processes=1, gpus=(A100,))["GPU memory"]
    assert finding.level == "fail"
    assert "--deepspeed ds_configs/ds_zero3.json would need" in str(finding.fix)


def test_long_examples_that_may_not_fit_are_a_warning(said: Diagnosis, repo: Path) -> None:
    finding = said(zero_file(repo, "ds_zero2") | {"cutoff_len": 24000})["GPU memory"]
    assert finding.level == "warn"
    assert "examples of 24000 tokens may not fit" in finding.message


def test_memory_that_somebody_holds_is_named_with_the_process(
    said: Diagnosis, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_nvidia_smi(tmp_path, gpus="", processes=f"{SECOND}, {os.getpid()}, 71680\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    held = Gpu(1, SECOND, A100.name, A100.total_bytes, 10 * GIB, 8.0)
    finding = said(zero_file(repo, "ds_zero2") | {"bf16": True}, processes=2, gpus=(A100, held))["GPU memory"]
    assert finding.level == "fail"
    finding = said(zero_file(repo, "ds_zero3_no_offload"), processes=2, gpus=(A100, held))["GPU memory"]
    assert finding.level == "fail"
    assert "there are 80.0 GiB" in finding.message
    assert f"GPU 1 has only 10.0 GiB free: process {os.getpid()}" in finding.message
    assert "holds 70.0 GiB" in finding.message


def test_memory_that_the_driver_does_not_tell_is_not_judged(said: Diagnosis) -> None:
    unknown = Gpu(0, "MIG-1", "slice", None, None, 9.0)
    assert said(processes=1, gpus=(unknown,))["GPU memory"].level == "warn"


def test_more_processes_than_gpus_cannot_work(said: Diagnosis) -> None:
    finding = said(processes=2, gpus=(A100,))["GPUs"]
    assert (finding.level, finding.fix) == ("fail", "--nproc-per-node 1")


def test_half_precision_without_a_gpu_cannot_work(said: Diagnosis) -> None:
    assert said(gpus=(), processes=1)["GPUs"].level == "fail"
    assert said({"bf16": False}, gpus=(), processes=1)["GPUs"].level == "ok"


def test_an_old_card_and_full_precision_are_warnings(said: Diagnosis) -> None:
    assert said(processes=1, gpus=(V100,))["precision"].level == "warn"
    assert "float32" in said({"bf16": False})["precision"].message
    assert "precision" not in said()


def test_a_model_too_large_for_the_machine_without_a_gpu_cannot_work(
    said: Diagnosis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_fit, "host_memory", lambda: (64 * GIB, 60 * GIB))
    assert said({"bf16": False}, gpus=(), processes=1)["memory"].level == "fail"
    monkeypatch.setattr(doctor_fit, "host_memory", lambda: (512 * GIB, 500 * GIB))
    assert said({"bf16": False}, gpus=(), processes=1)["memory"].level == "ok"


@pytest.mark.parametrize(("total", "available", "level"), [(128, 120, "fail"), (256, 100, "warn"), (512, 400, "ok")])
def test_offloading_needs_the_machines_own_memory(
    said: Diagnosis, repo: Path, monkeypatch: pytest.MonkeyPatch, total: int, available: int, level: str
) -> None:
    monkeypatch.setattr(doctor_fit, "host_memory", lambda: (total * GIB, available * GIB))
    finding = said(zero_file(repo, "ds_zero3"))["host memory"]
    assert finding.level == level
    assert "206.0 GiB" in finding.message


def test_a_containers_memory_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    limit.write_text(f"{2 * GIB}\n")
    used.write_text(f"{GIB}\n")
    monkeypatch.setattr(doctor_fit, "CGROUP_LIMITS", ((limit, used),))
    assert doctor_fit.host_memory() == (2 * GIB, GIB)
    limit.write_text("max\n")
    assert doctor_fit.host_memory()[0] > 2 * GIB


def test_checkpoints_that_do_not_fit_on_the_disk_are_found(
    said: Diagnosis, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_fit, "_free_bytes", lambda _path: 200 * GIB)
    zero = zero_file(repo, "ds_zero2")
    assert said(zero)["disk"].level == "ok"
    assert said(zero | {"save_strategy": "epoch", "save_total_limit": 1, "num_train_epochs": 2})["disk"].level == "warn"
    one = said(zero | {"save_strategy": "steps", "save_steps": 10, "max_steps": 10})["disk"]
    assert one.level == "ok"
    assert "checkpoints of 122.1 GiB (1 at once) and the model, 15.3 GiB" in one.message
    monkeypatch.setattr(doctor_fit, "_free_bytes", lambda _path: 20 * GIB)
    assert said(zero | {"save_strategy": "epoch"})["disk"].level == "fail"
    assert said(zero)["disk"].level == "ok"


def test_checkpoints_of_an_earlier_attempt_count_as_space_of_this_one(
    said: Diagnosis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_fit, "_free_bytes", lambda _path: 0)
    checkpoint = tmp_path / "saves/x/checkpoint-10"
    checkpoint.mkdir(parents=True)
    with (checkpoint / "optimizer.pt").open("wb") as stream:
        stream.truncate(300 * GIB)
    assert said()["disk"].level == "ok"


def test_a_busy_port_is_found(said: Diagnosis) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert said(nodes=2, master_port=port)["port"].level == "fail"
        assert said(nodes=2, master_port=port, node_rank=1, quick=False)["port"].level == "ok"
    assert "port" not in said(nodes=2, master_port=port)
    assert said(nodes=2, master_port=port, node_rank=1, quick=False)["port"].level == "warn"


def test_an_output_that_cannot_be_written_is_found(said: Diagnosis, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert said(output_dir=tmp_path / "file" / "x")["output"].level == "fail"
    assert "output" not in said()


def test_data_that_the_settings_name_must_be_there(said: Diagnosis, tmp_path: Path) -> None:
    theirs = {"dataset_dir": str(tmp_path), "dataset": "calls, more"}
    assert "calls, more" in said(theirs)["data"].message
    (tmp_path / "dataset_info.json").write_text('{"calls": {}}')
    finding = said(theirs)["data"]
    assert finding.level == "fail"
    assert "train on more in" in finding.message
    assert "data" not in said(theirs | {"dataset": ["calls"]})
    assert "data" not in said({"dataset": "calls"})


def test_little_shared_memory_is_found(said: Diagnosis, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(quick=False)["shared memory"].level == "ok"
    monkeypatch.setattr(doctor_machine, "SHM_BYTES", 1 << 60)
    finding = said(quick=False)["shared memory"]
    assert finding.level == "warn"
    assert "--shm-size" in str(finding.fix)


def test_a_deepspeed_file_that_contradicts_the_settings_is_found(said: Diagnosis, tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"train_batch_size": 4, "zero_optimization": {"stage": 2, "overlap_comm": True}}))
    finding = said({"deepspeed": str(path)})["DeepSpeed"]
    assert finding.level == "fail"
    assert "8 processes with these settings make it 16" in finding.message
    finding = said({"deepspeed": str(path)}, processes=2)["DeepSpeed"]
    assert finding.level == "warn"
    assert "overlap_comm" in finding.message


@pytest.mark.parametrize(
    ("version", "name", "level"),
    [
        ("0.17.5", "ds_zero2", "ok"),
        ("0.17.6", "ds_zero2", "fail"),
        ("0.18.2+cu12", "ds_zero2", "fail"),
        ("0.18.3", "ds_zero2", "ok"),
        ("0.18.2", "ds_zero3_no_offload", "ok"),
    ],
)
def test_versions_of_deepspeed_with_wrong_gradients_are_refused(
    said: Diagnosis, repo: Path, version: str, name: str, level: str
) -> None:
    assert said(zero_file(repo, name), versions={"deepspeed": version})["DeepSpeed"].level == level


def test_offloading_without_a_compiler_is_found(
    said: Diagnosis, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.delenv("CXX", raising=False)
    python = tools / "python"
    finding = said(zero_file(repo, "ds_zero3"), python=python)["compiler"]
    assert finding.level == "fail"
    assert "no ninja and no c++" in finding.message
    assert "compiler" not in said(zero_file(repo, "ds_zero2"), python=python)
    for name in ("ninja", "c++"):
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    assert "compiler" not in said(zero_file(repo, "ds_zero3"), python=python)


def test_libraries_that_the_settings_ask_for_must_be_there(said: Diagnosis, tmp_path: Path) -> None:
    python = tmp_path / "python"
    liger = {"enable_liger_kernel": True}
    assert said(liger, python=python)["liger"].level == "fail"
    assert "liger" not in said(liger, python=python, versions={"liger-kernel": "0.8.0"})
    assert said(liger, gpus=(), processes=1, versions={"liger-kernel": "0.8.0"})["liger"].level == "fail"
    flash = {"flash_attn": "fa2"}
    assert said(flash, python=python)["flash-attn"].level == "warn"
    assert "flash-attn" not in said(flash, python=python, versions={"flash-attn": "2.8.3"})
    assert said(flash, processes=1, gpus=(V100,), python=python)["flash-attn"].level == "fail"


def test_packing_that_crashes_is_found(said: Diagnosis) -> None:
    assert said({"neat_packing": True, "cutoff_len": 4097})["packing"].fix == "--cutoff-len 4096"
    assert "packing" not in said({"neat_packing": True})


def test_the_cheap_part_starts_no_engine(said: Diagnosis, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    said(zero_file(repo, "ds_zero3"))
    monkeypatch.setattr(subprocess, "Popen", start)
    said(zero_file(repo, "ds_zero3"))


def test_a_run_that_cannot_work_stops_before_it_makes_anything(
    run_cli: RunCli, train_python: Path, model: Path, conversations: Path, tmp_path: Path
) -> None:
    tool = tmp_path / "bin"
    tool.mkdir()
    install_nvidia_smi(tool, gpus=f"0, {FIRST}, NVIDIA A100-SXM4-40GB, 40960, 40000, 8.0\n")
    done = run_cli(
        *("sft", conversations, "--model", model, "--force-template", "--output-dir", tmp_path / "out"),
        env={"PATH": f"{tool}{os.pathsep}{os.environ['PATH']}", "AGENT_SFT_TRAIN_PYTHON": str(train_python)},
    )
    assert done.returncode == 2, done.stderr
    assert "GPU memory: each GPU needs about" in done.stderr
    assert "--finetuning-type lora" in done.stderr or "--deepspeed ds_configs/ds_zero3.json" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_gpu_that_torch_does_not_see_is_found(said: Diagnosis, train_python: Path) -> None:
    finding = said(processes=1, gpus=(A100, V100), quick=False, python=train_python, versions={})["torch"]
    assert finding.level == ("fail" if "sees 0 GPUs" in finding.message else "warn")
    assert "the driver 2" in finding.message


@pytest.mark.slow
def test_a_library_that_is_installed_but_does_not_load_is_found(
    said: Diagnosis, train_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flash_attn.py").write_text("raise ImportError('undefined symbol: _ZN3c10')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finding = said(processes=1, gpus=(A100,), quick=False, python=train_python, versions={"flash-attn": "2.8.3"})[
        "flash-attn"
    ]
    assert finding.level == "fail"
    assert "ImportError: undefined symbol: _ZN3c10" in finding.message


@pytest.mark.slow
def test_the_command_shows_all_and_exits_zero_when_nothing_would_fail(
    run_cli: RunCli, train_python: Path, repo: Path, conversations: Path, tmp_path: Path
) -> None:
    zero = repo / "ds_configs/ds_zero3.json"
    options = ("--model", "tiny", "--deepspeed", zero, "--nproc-per-node", "2", "--output-dir", tmp_path / "out")
    done = run_cli("doctor", conversations, *options, env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {line.split()[1] for line in done.stdout.splitlines()}
    assert {"template", "environment", "GPUs", "DeepSpeed", "compiler", "shared"} <= lines
    assert "llamafactory " in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--model", "tiny", "--set", "bf16=true"), "there is no GPU, and bf16 is on"),
        (("--template", "llama3"), "'llama3' is not the template of Qwen/Qwen2.5-7B-Instruct"),
        (("--model", "tiny", "--set", "lerning_rate=1"), "did you mean 'learning_rate'?"),
    ],
)
def test_the_command_exits_one_when_something_would_fail(
    run_cli: RunCli, train_python: Path, options: tuple[str, ...], said: str
) -> None:
    done = run_cli("doctor", *options, env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stdout
    assert "Traceback" not in done.stderr
