"""Jobs on a Ray cluster of three machines, all of which are this one: placed, lost, found again."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent_sft.engines.llamafactory.checkpoints import weights_fault
from agent_sft.errors import UserError
from agent_sft.report.sweep.record import SweepRecord
from agent_sft.sweep.graph import Slots
from tests.ray_clusters import SmallCluster
from tests.support import QUICK, final_step, processes_of, short_data
from tests.sweep_jobs import Sums, states

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster() as made:
        yield made


@pytest.fixture
def sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sums:
    monkeypatch.chdir(tmp_path)
    return Sums(tmp_path)


def noting(sums: Sums, name: str, *, seconds: float = 0.3) -> str:
    """A program that notes when it ran and which GPUs it saw."""
    return f"""
    import json, os, pathlib, time
    begun = time.time()
    time.sleep({seconds})
    told = [begun, time.time(), os.environ["CUDA_VISIBLE_DEVICES"]]
    pathlib.Path({str(sums.made(name))!r}).write_text(json.dumps(told))
    """


def held(sums: Sums, name: str, gate: Path) -> str:
    """A program that notes that it runs, and ends when it may."""
    return f"""
    import pathlib, time
    with open({str(sums.folder / "ran")!r}, "a") as notes:
        notes.write("{name}\\n")
    while not pathlib.Path({str(gate)!r}).exists():
        time.sleep(0.05)
    pathlib.Path({str(sums.made(name))!r}).touch()
    """


def ran_in(folder: Path) -> list[str]:
    """Who has noted there that it runs, once for each time."""
    return (folder / "ran").read_text().split() if (folder / "ran").is_file() else []


def machine_of(record: SweepRecord, job: str) -> str:
    """The name of the machine that a job was placed on; empty until it is."""
    (found,) = [one for one in record.jobs if one.id == job]
    return found.devices[0].partition(":")[0] if found.devices and ": gpu " in found.devices[0] else ""


def node_id(name: str, cluster: SmallCluster) -> str:
    """The id of a machine, by the beginning of it that its name has."""
    return next(node for node in [cluster.head, *cluster.others] if node.startswith(name.partition("/")[2]))


def test_jobs_that_run_at_the_same_time_have_different_gpus(sums: Sums, cluster: SmallCluster) -> None:
    names = [f"train/{letter}" for letter in "abcdefgh"]
    for number, name in enumerate(names):
        sums.add(name, noting(sums, name), gpus=1 + number % 2)
    record, said = sums.run(resources=cluster.resources)
    assert set(states(record).values()) == {"done"}, said
    ran = []
    for job in record.jobs:
        begun, ended, devices = json.loads(sums.made(job.id).read_text())
        assert [word.partition(": gpu ")[2] for word in job.devices] == devices.split(",")
        ran += [(begun, ended, machine_of(record, job.id), device) for device in devices.split(",")]
    for one in ran:
        same = [other for other in ran if other[2:] == one[2:] and other is not one]
        assert all(other[1] <= one[0] or one[1] <= other[0] for other in same), "a GPU had two jobs at once"
    assert len({place[2] for place in ran}) == 3, "all machines were used"


def test_a_job_of_several_machines_has_all_of_them_at_once_or_fails_as_a_whole(
    sums: Sums, cluster: SmallCluster
) -> None:
    met = f"""
    import json, os, pathlib, sys, time
    folder = pathlib.Path({str(sums.folder)!r})
    rank = sys.argv[sys.argv.index("--node-rank") + 1]
    (folder / f"rank-{{rank}}").write_text(json.dumps([sys.argv[1:], os.environ["CUDA_VISIBLE_DEVICES"]]))
    while not all((folder / f"rank-{{other}}").exists() for other in (0, 1)):
        time.sleep(0.05)
    pathlib.Path({str(sums.made("train/a"))!r}).touch()
    """
    failing = """
    import sys, time
    if sys.argv[-1] == "1":
        sys.exit("the second machine has no disk")
    time.sleep(600)
    """
    for name, text, after in (("train/a", met, []), ("train/b", failing, ["train/a"])):
        sums.add(name, text, after=after)
        sums.jobs[name] = replace(sums.jobs[name], slots=Slots(gpus=2, nodes=2))
    record, said = sums.run(resources=cluster.resources)
    assert states(record) == {"train/a": "done", "train/b": "failed"}, said
    (first, devices), (second, _) = [json.loads((sums.folder / f"rank-{rank}").read_text()) for rank in (0, 1)]
    assert first[:-1] == second[:-1]
    assert first[0] == "--master-addr"
    assert int(first[3]) > 1023
    assert (first[-1], second[-1], devices) == ("0", "1", "0,1")
    assert len({word.partition(":")[0] for word in record.jobs[0].devices}) == 2, "on different machines"
    assert "machine 1 failed" in said
    assert "the second machine has no disk" in said


def test_a_job_goes_on_elsewhere_when_its_machine_is_gone(sums: Sums, cluster: SmallCluster) -> None:
    gate = sums.folder / "gate"
    sums.add("train/a", held(sums, "train/a", gate), gpus=2)
    sums.add("train/b", held(sums, "train/b", gate), gpus=2)
    removed: list[str] = []

    def look(record: SweepRecord) -> None:
        places = {job: machine_of(record, job) for job in states(record)}
        ran = ran_in(sums.folder)
        if not removed and all(places.values()) and places.keys() <= set(ran):
            job, name = next((job, name) for job, name in places.items() if node_id(name, cluster) != cluster.head)
            removed.append(job)
            cluster.remove(node_id(name, cluster))
        elif removed and ran.count(removed[0]) >= 2:
            gate.touch()

    record, said = sums.run(look, resources=cluster.resources)
    cluster.add()
    assert set(states(record).values()) == {"done"}, said
    assert f"{removed[0]}: it lost its place on" in said
    (lost,) = [job for job in record.jobs if job.id == removed[0]]
    assert lost.attempts >= 2


def test_a_training_that_loses_its_machine_goes_on_elsewhere_from_its_checkpoint(
    sums: Sums, cluster: SmallCluster, train_python: Path
) -> None:
    out = sums.folder / "run"
    options = [*QUICK, "--steps", "30", "--checkpoint-interval", "3", "--output-dir", str(out)]
    text = f"""
    import os, pathlib, subprocess, sys
    command = [sys.executable, "-P", "-m", "agent_sft", "sft", {str(short_data(sums.folder))!r}, *{options!r}]
    status = subprocess.call(command)
    if status == 0:
        pathlib.Path({str(sums.made("train/a"))!r}).touch()
    sys.exit(status)
    """
    sums.add("train/a", text, gpus=1)
    removed = ""

    def look(record: SweepRecord) -> None:
        nonlocal removed
        name = machine_of(record, "train/a")
        if not removed and name and any(out.glob("checkpoint-*/trainer_state.json")):
            for process in processes_of(out):
                if any(word.endswith("inside/train.py") for word in process.cmdline()):
                    process.suspend()  # it goes no further before its machine is gone
            removed = name
            if node_id(name, cluster) == cluster.head:
                cluster.kill()
                cluster.start()
            else:
                cluster.remove(node_id(name, cluster))

    record, said = sums.run(look, resources=cluster.resources)
    assert set(states(record).values()) == {"done"}, said
    (job,) = [one for one in record.jobs if one.id == "train/a"]
    assert job.attempts >= 2  # a machine may be lost before Ray knows, and once more
    assert "train: going on from checkpoint-" in (sums.out / str(job.log)).read_text()
    assert final_step(out) == 30
    assert not weights_fault(out)


def test_the_head_is_killed_and_started_again(sums: Sums, cluster: SmallCluster) -> None:
    gate = sums.folder / "gate"
    sums.add("train/a", held(sums, "train/a", gate), gpus=2)
    sums.add("train/b", after=["train/a"], gpus=1)
    killed = False

    def look(record: SweepRecord) -> None:
        nonlocal killed
        ran = ran_in(sums.folder)
        if not killed and machine_of(record, "train/a") and ran:
            killed = True
            cluster.kill()
            cluster.start()
        elif len(ran) >= 2:
            gate.touch()

    record, said = sums.run(look, resources=cluster.resources)
    assert set(states(record).values()) == {"done"}, said
    # Which of the two is noticed first is chance.
    assert re.search("train/a: (the Ray cluster went away|it lost its place on .*); it goes on elsewhere", said), said
    assert "the Ray cluster went away" in said
    assert "the Ray cluster answers again" in said


def test_more_gpus_than_any_machine_has_are_refused_at_once(sums: Sums, cluster: SmallCluster) -> None:
    sums.add("train/a", gpus=3)
    begun = time.monotonic()
    with pytest.raises(UserError, match="wants 3 gpus, there are 2 on the largest of"):
        sums.run(resources=cluster.resources)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "nobody answers at 127.0.0.1:1"),
        ("ray://127.0.0.1:10001", "is the address of Ray's client server"),
        ("head", "'head' is no address of a Ray cluster"),
    ],
)
def test_an_address_without_a_cluster_is_refused(sums: Sums, address: str, says: str) -> None:
    sums.add("train/a", gpus=1)
    with pytest.raises(UserError, match=says):
        sums.run(resources={"executor": "ray", "ray_address": address})
