"""How the candidates of a plan share out a machine, or the machines of a cluster."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agent_sft.config.planning import PlanConfig
from agent_sft.planning.sweeps import machine_for
from agent_sft.runs.devices import Gpu
from agent_sft.sweep.cluster import ClusterFacts
from agent_sft.sweep.slots import Capacity, Node

A100 = tuple(Gpu(index, f"GPU-{index}", "A100", 80 << 30, 80 << 30, 8.0) for index in range(8))


def config(**resources: object) -> PlanConfig:
    return PlanConfig.model_validate({"data": "a.json", "name": "a", "out": "a", "resources": resources})


def with_cluster(monkeypatch: pytest.MonkeyPatch, gpus: Sequence[int], cores: int = 16) -> None:
    nodes = [Node(str(number), f"m{number}", has, cores, here=not number) for number, has in enumerate(gpus)]
    facts = ClusterFacts("auto", Capacity.of(nodes), A100[: max(gpus)], ())
    monkeypatch.setattr("agent_sft.sweep.resources.cluster_facts", lambda _address: facts)


def test_candidates_are_side_by_side_on_the_machines_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cluster(monkeypatch, [0, 8, 8, 4])
    one = machine_for(config(executor="ray"), 30)
    assert (one.gpus, one.train, one.at_once, one.most) == (20, 1, 6, 8)
    whole = machine_for(config(executor="ray"), 30, fewest_gpus=8)
    assert (whole.train, whole.at_once) == (8, 2)
    asked = machine_for(config(executor="ray", gpus_per_train=3), 30)
    assert (asked.train, asked.at_once) == (3, 5), "a machine's share is not made of two machines"
    assert asked.words == "a Ray cluster, A100"


def test_a_plan_on_a_cluster_is_the_same_when_a_machine_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cluster(monkeypatch, [8, 8])
    before = machine_for(config(executor="ray"), 4)
    with_cluster(monkeypatch, [8])
    after = machine_for(config(executor="ray"), 4)
    assert (before.words, before.train) == (after.words, after.train)


def test_without_a_gpu_its_processors_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cluster(monkeypatch, [0, 0], cores=4)
    found = machine_for(config(executor="ray"), 4)
    assert (found.gpus, found.cores, found.train, found.at_once) == (0, 8, 2, 4)
    assert machine_for(config(executor="ray"), 1).train == 4, "no more than one machine has"
    assert found.words == "a Ray cluster, no GPU"
