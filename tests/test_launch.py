"""How a training is started."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from agent_sft.engines.forks.sharing import FORKS
from agent_sft.engines.llamafactory.facts import INSIDE
from agent_sft.engines.llamafactory.launch import (
    LEFT_OUT,
    SHARED_DEEPSPEED,
    Launch,
    training_command,
    training_environment,
)

ONE = Launch(processes=1, nodes=1, node_rank=0, master_addr="127.0.0.1", master_port=None)
PYTHON, YAML, ATTEMPT = Path("env/bin/python"), Path("a b/train.yaml"), Path("a b")


def command(launch: Launch, *, deepspeed: bool = False) -> list[str]:
    return training_command(PYTHON, launch, YAML, ATTEMPT, deepspeed=deepspeed)


def test_one_process_is_started_directly() -> None:
    assert command(ONE)[0] == "env/bin/python"
    assert command(ONE)[-2:] == ["a b/train.yaml", "a b"]
    assert "torch.distributed.run" not in command(ONE)


def test_deepspeed_always_goes_through_torchrun() -> None:
    assert "torch.distributed.run" in command(ONE, deepspeed=True)


def test_torchrun_has_each_process_forked_where_there_is_something_to_fork_it_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(FORKS, "/somewhere")
    started = training_command(PYTHON, ONE, YAML, ATTEMPT, deepspeed=True, started=SHARED_DEEPSPEED.forked)
    torchrun, program = started[: started.index("--no-python")], started[started.index("--no-python") + 1 :]
    assert torchrun == command(ONE, deepspeed=True)[: len(torchrun)]
    assert "/somewhere/deepspeed.socket" in program
    assert program[-3:] == command(ONE)[-3:]


def test_what_is_left_out_where_processes_are_forked_is_known() -> None:
    assert frozenset(runpy.run_path(str(INSIDE / "leaving_out.py"))["TRACKERS"]) == LEFT_OUT


def test_processes_on_one_machine_meet_on_a_port_of_the_systems_choice() -> None:
    several = Launch(processes=4, nodes=1, node_rank=0, master_addr="127.0.0.1", master_port=None)
    assert {"--nproc-per-node=4", "--rdzv-endpoint=127.0.0.1:0"} <= set(command(several))


def test_machines_meet_where_they_are_told() -> None:
    second = Launch(processes=8, nodes=2, node_rank=1, master_addr="10.0.0.5", master_port=29500)
    told = {"--nnodes=2", "--node-rank=1", "--nproc-per-node=8", "--master-addr=10.0.0.5", "--master-port=29500"}
    assert told <= set(command(second))
    assert second.world_size == 16


def test_a_topology_from_outside_does_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "FORCE_TORCHRUN"):
        monkeypatch.setenv(name, "1")
    environment = training_environment(PYTHON, ONE, gpus=0)
    assert not {"RANK", "WORLD_SIZE", "FORCE_TORCHRUN"} & set(environment)
    assert environment["PATH"].startswith("env/bin:")


def test_processes_without_gpus_share_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    several = Launch(processes=2, nodes=1, node_rank=0, master_addr="127.0.0.1", master_port=None)
    assert int(training_environment(PYTHON, several, gpus=0)["OMP_NUM_THREADS"]) >= 1
    assert "OMP_NUM_THREADS" not in training_environment(PYTHON, ONE, gpus=0)
