"""Jobs on a Ray cluster of two machines, both of which are this one: placed, cancelled, lost, tried again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agent_sft.engines.llamafactory.checkpoints import weights_fault
from agent_sft.jobs.control import cancel, retry, wait
from agent_sft.jobs.record import Need
from agent_sft.jobs.status import Job, job_in
from agent_sft.jobs.submitting import submit
from tests.conftest import RunCli
from tests.jobs import killed, running, until
from tests.ray_clusters import SmallCluster
from tests.support import QUICK, short_data

pytestmark = pytest.mark.slow

NOTES = 'echo "$CUDA_VISIBLE_DEVICES" >> ran; '
"""A shell command that notes that it runs, and with which GPUs."""
WAITS = NOTES + "while [ ! -e go ]; do sleep 0.05; done"


@pytest.fixture(scope="module")
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2) as made:
        yield made


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def submitted(folder: Path, script: str, cluster: SmallCluster, *, gpus: int = 2, nodes: int = 1) -> Job:
    """Submit a shell script that runs in `folder` with so many GPUs of the cluster's machines."""
    need = Need(count=gpus, gpus=True, executor="ray", address=cluster.address, nodes=nodes)
    return submit(folder / "job", "command", ["sh", "-c", script], need, folder=folder)


def runs_of(folder: Path) -> list[str]:
    return (folder / "ran").read_text().split() if (folder / "ran").exists() else []


def test_a_job_has_its_gpus_and_is_queued_until_it_has_them(tmp_path: Path, cluster: SmallCluster) -> None:
    places = [tmp_path / name for name in ("a", "b", "c")]
    for place in places:
        place.mkdir()
    first, second = (running(submitted(place, WAITS, cluster)) for place in places[:2])
    assert [slot.rpartition(" ")[2] for slot in (*first.slots, *second.slots)] == ["0", "1", "0", "1"]
    third = submitted(places[2], WAITS, cluster, gpus=1)
    assert (third.status, third.reason) == ("queued", "for its place on the cluster")
    (places[0] / "go").touch()
    running(third)
    for place in places:
        (place / "go").touch()
        assert wait(place / "job").status == "succeeded"
    assert runs_of(places[0]) == ["0,1"]
    assert len(runs_of(places[2])[0]) == 1


def test_a_job_of_several_machines_is_told_where_they_meet(tmp_path: Path, cluster: SmallCluster) -> None:
    # The options come after the script: $1 is the address, $3 the port, $5 the rank.
    script = 'echo "$1 $3" > rank-$5; until [ -e rank-0 ] && [ -e rank-1 ]; do sleep 0.05; done'
    job = submitted(tmp_path, script, cluster, nodes=2)
    assert wait(job.directory).status == "succeeded"
    first, second = (tmp_path / "rank-0").read_text(), (tmp_path / "rank-1").read_text()
    assert first == second
    assert first.split()[0] == cluster.address.partition(":")[0]
    assert int(first.split()[1]) > 1023


def test_a_cancelled_job_leaves_nothing_whether_it_runs_or_waits(tmp_path: Path, cluster: SmallCluster) -> None:
    job = running(submitted(tmp_path, WAITS, cluster))
    until(lambda: runs_of(tmp_path), "it does not begin")
    waits = tmp_path / "waits"
    waits.mkdir()
    other = submitted(waits, WAITS, cluster, nodes=2)
    assert cancel(other.directory).status == "cancelled"
    assert cancel(job.directory).status == "cancelled"
    assert not family(tmp_path)
    assert not runs_of(waits)


def test_a_job_goes_on_elsewhere_when_its_machine_is_gone(tmp_path: Path, cluster: SmallCluster) -> None:
    blocks = tmp_path / "blocks"
    blocks.mkdir()
    jobs = {place: running(submitted(place, WAITS, cluster)) for place in (blocks, tmp_path)}
    for place in jobs:
        until(lambda place=place: runs_of(place), "it does not begin")  # type: ignore[misc]
    cluster.remove(cluster.others[0])
    cluster.add()
    until(lambda: max(len(runs_of(place)) for place in jobs) >= 2, "the one that was lost does not run again")
    for place, job in jobs.items():
        (place / "go").touch()
        ended = wait(job.directory)
        assert (ended.status, ended.attempt) == ("succeeded", 1)


def test_a_killed_supervisor_takes_all_with_it_and_the_job_can_be_tried_again(
    tmp_path: Path, cluster: SmallCluster
) -> None:
    job = running(submitted(tmp_path, WAITS, cluster))
    until(lambda: runs_of(tmp_path), "it does not begin")
    assert killed(job).status == "failed"
    assert not family(tmp_path), "the lock is free when all is gone"
    running(retry(job.directory))
    (tmp_path / "go").touch()
    ended = wait(job.directory)
    assert (ended.status, ended.attempt) == ("succeeded", 2)


def test_two_machines_train_one_model_by_zero_2(
    tmp_path: Path, cluster: SmallCluster, call_cli: RunCli, repo: Path, train_python: Path
) -> None:
    zero, run = repo / "ds_configs" / "ds_zero2.json", tmp_path / "run"
    training = [short_data(tmp_path, 8), *QUICK, "--steps", "1", "--deepspeed", zero, "--output-dir", run]
    place = ["--executor", "ray", "--ray-address", cluster.address, "--nnodes", "2", "--gpus", "1"]
    done = call_cli("train", "sft", *training, *place, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    job = job_in(run)
    assert (job.step, job.steps, len(job.slots)) == (1, 1, 2)
    assert (run / "nodes" / "1" / "attempts" / "1" / "train.log").is_file(), "the second machine has a log of its own"
    assert not weights_fault(run)
    parts = (run / "checkpoint-1").glob("global_step1/*_optim_states.pt")
    assert len({path.name for path in parts}) == 2, "each holds its part of the optimizer's state"


def test_a_cluster_that_is_gone_fails_the_job_and_says_so(tmp_path: Path) -> None:
    need = Need(gpus=True, executor="ray", address="127.0.0.1:1")
    submit(tmp_path / "job", "command", ["true"], need, folder=tmp_path)
    ended = wait(tmp_path / "job")
    assert (ended.status, ended.exit_code) == ("failed", 2)
    assert "nobody answers at 127.0.0.1:1" in str(ended.reason)
    assert job_in(tmp_path / "job").slots == ()


def family(folder: Path) -> list[psutil.Process]:
    """What runs in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if process.info["cwd"] == str(folder) and process.info["cmdline"][:1] == ["sh"]:
            found.append(process)
    return found
