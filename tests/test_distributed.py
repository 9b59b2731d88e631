"""Several processes, DeepSpeed and several machines, for real, on the processors of one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_sft.engines.deepspeed.extensions import held_extensions
from agent_sft.engines.environments import engine_versions
from agent_sft.engines.llamafactory.facts import DISTRIBUTIONS
from tests.conftest import RunCli
from tests.support import QUICK, final_step, loaded_examples, short_data, tree

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def formless(folder: Path) -> Path:
    """Write a benchmark that every answer passes: one for each process, and one more."""
    verifier = {"fn_name": "regex", "pattern": "(?s).*"}
    tasks = [{"task_id": str(number), "instruction": f"Line {number}?", "verifier": verifier} for number in range(3)]
    (folder / "formless").mkdir()
    (folder / "formless" / "tasks.jsonl").write_text("".join(f"{json.dumps(task)}\n" for task in tasks))
    return folder / "formless"


def leave_a_lock_of_torch(python: Path) -> None:
    """Leave what a training leaves that is killed while torch compiles."""
    with held_extensions(python, engine_versions(python, DISTRIBUTIONS)) as (variables, _):
        lock = Path(variables["TORCH_EXTENSIONS_DIR"]) / "cpu_adam" / "lock"
        lock.parent.mkdir(exist_ok=True)
        lock.touch()


def test_zero_3_on_two_processes(tmp_path: Path, repo: Path, run_cli: RunCli, train_python: Path) -> None:
    leave_a_lock_of_torch(train_python)
    deepspeed = repo / "ds_configs" / "ds_zero3.json"
    options = (*QUICK, "--steps", "3", "--deepspeed", deepspeed, "--nproc-per-node", "2")
    data = short_data(tmp_path)
    # The first time torch compiles, which takes a busy machine many minutes.
    done = run_cli("sft", data, *options, "--output-dir", tmp_path / "out", timeout=880)
    assert done.returncode == 0, done.stderr
    assert final_step(tmp_path / "out") == 3
    assert loaded_examples(tmp_path / "out") == [24]
    assert (tmp_path / "out" / "model.safetensors").stat().st_size > 1_000_000
    assert "deepspeed_shm_comm" not in (tmp_path / "out" / "attempts" / "1" / "train.log").read_text()
    before = tree(tmp_path / "out")
    again = run_cli("sft", data, *options, "--output-dir", tmp_path / "out")
    assert "finished already" in again.stdout
    assert tree(tmp_path / "out") == before


def test_two_processes_without_deepspeed_go_on_from_where_they_paused(tmp_path: Path, run_cli: RunCli) -> None:
    options = (short_data(tmp_path), *QUICK, "--steps", "4", "--nproc-per-node", "2", "--output-dir", tmp_path / "out")
    paused = run_cli("sft", *options, "--pause-at", "2", timeout=300)
    assert (paused.returncode, "stopped at step 2" in paused.stderr + paused.stdout) == (0, True), paused.stderr
    done = run_cli("sft", *options, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "going on from checkpoint-2" in done.stderr
    assert final_step(tmp_path / "out") == 4


def test_zero_2_on_two_processes_goes_on_after_a_stop(tmp_path: Path, repo: Path, train_python: Path) -> None:
    out = tmp_path / "out"
    deepspeed = repo / "ds_configs" / "ds_zero2.json"
    options = ("--epochs", "6", "--deepspeed", str(deepspeed), "--nproc-per-node", "2", "--output-dir", str(out))
    scored = ("--benchmark", str(formless(tmp_path)), "--benchmark-every", "18", "--best-by", "formless")
    command = ["bash", str(repo / "run_sft.sh"), str(short_data(tmp_path)), *QUICK, *options, *scored]
    env = {**os.environ, "AGENT_SFT_TRAIN_PYTHON": str(train_python)}
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    while run.poll() is None and not (out / "trainer_log.jsonl").is_file():
        time.sleep(0.05)
    run.terminate()
    printed, _ = run.communicate(timeout=600)
    assert run.returncode == 143, printed
    assert "its checkpoint is saved" in printed
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert "going on from checkpoint-" in done.stderr
    assert final_step(out) == 36
    assert loaded_examples(out) == [24, 24]
    assert (out / "model.safetensors").stat().st_size > 1_000_000
    measured = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["metrics"]["val/formless/pass@1"] for line in measured if line["split"] == "val"}
    assert scores == {0: 1.0, 18: 1.0, 36: 1.0}
    # Both processes chose the first of equals, and loaded it.
    assert (out / "model.safetensors").read_bytes() == (out / "checkpoint-18" / "model.safetensors").read_bytes()
    assert (out / "model.safetensors").read_bytes() != (out / "checkpoint-36" / "model.safetensors").read_bytes()


def train_on_two_machines(folder: Path, repo: Path) -> list[tuple[int, str]]:
    """Train on two machines that both are this one; return how each ended and what it printed."""
    options = ["--steps", "2", "--deepspeed", str(repo / "ds_configs" / "ds_zero2.json"), "--output-dir", "out"]
    options += ["--nnodes", "2", "--nproc-per-node", "1", "--master-port", str(free_port())]
    data = str(short_data(folder))
    runs = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "agent_sft", "sft", data, *QUICK, *options, "--node-rank", str(rank)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    printed = [run.communicate(timeout=600)[0] for run in runs]
    return [(run.returncode, text) for run, text in zip(runs, printed, strict=True)]


def test_two_machines(tmp_path: Path, repo: Path) -> None:
    for number in range(3):
        folder = tmp_path / str(number)
        ended = train_on_two_machines(folder, repo)
        logs = "".join(log.read_text(errors="replace") for log in folder.glob("out/**/train.log"))
        if "EADDRINUSE" not in logs:  # somebody else took the port between our look and torchrun's
            break
    assert [status for status, _ in ended] == [0, 0], ended
    assert final_step(folder / "out") == 2
    assert "machine 1 is done" in ended[1][1]
