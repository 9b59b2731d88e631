"""Shares of a machine: never more than there is, each with its own devices, all of them given back."""

from __future__ import annotations

import os
import random
import subprocess
import sys

from agent_sft.sweep.graph import Slots
from agent_sft.sweep.slots import Capacity, Node, Pool, Share


def test_gpus_are_handed_out_once_and_given_back() -> None:
    pool = Pool(Capacity((0, 2, 5), 16))
    first, second = pool.take(Slots(gpus=2, cores=99)), pool.take(Slots(gpus=1))
    assert first is not None
    assert second is not None
    assert sorted(first.gpus + second.gpus) == [0, 2, 5]
    assert pool.take(Slots(gpus=1)) is None
    pool.give_back(first)
    assert pool.take(Slots(gpus=2)) == first


def test_a_job_sees_its_own_gpus_by_the_numbers_of_nvidia_smi() -> None:
    share = Pool(Capacity((1, 3), 8)).take(Slots(gpus=2))
    assert share is not None
    assert share.words == ["gpu 1", "gpu 3"]
    environment = share.environment()
    assert environment["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    without = Pool(Capacity((1, 3), 8)).take(Slots())
    assert without is not None
    assert without.environment()["CUDA_VISIBLE_DEVICES"] == "", "it gets none, so it sees none"


def test_processors_count_where_there_is_no_gpu() -> None:
    pool = Pool(Capacity((), 4))
    first = pool.take(Slots(gpus=8, cores=3))
    assert first is not None
    assert first.words == ["cores 3"]
    assert pool.take(Slots(cores=2)) is None
    assert pool.take(Slots(cores=1)) is not None


def test_a_program_uses_as_many_threads_as_it_has_processors() -> None:
    environment = Share((), 3, on_gpus=False).environment()
    program = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'])"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["3", "3"]


def test_no_more_jobs_than_asked_for() -> None:
    pool = Pool(Capacity((), 4), jobs=1)
    first = pool.take(Slots(cores=1))
    assert first is not None
    assert pool.take(Slots(cores=1)) is None
    pool.give_back(first)
    assert pool.take(Slots(cores=1)) is not None


def cluster(*gpus: int) -> Capacity:
    """A cluster of machines with so many GPUs each; the first one is this one."""
    return Capacity.of([Node(str(number), f"m{number}", has, 4, here=not number) for number, has in enumerate(gpus)])


def test_a_share_of_a_cluster_is_on_one_machine_the_one_with_the_least_to_spare() -> None:
    pool = Pool(cluster(0, 4, 2))
    one = pool.take(Slots(gpus=1))
    assert one is not None
    assert (one.words, one.environment()) == (["m2: 1 gpu"], {}), "which GPU it is, the cluster says"
    assert pool.fits(Slots(gpus=4)), "a whole machine is still free"
    assert pool.take(Slots(gpus=2)) is not None
    assert not pool.fits(Slots(gpus=3)), "three are free, on two machines"
    nothing = pool.take(Slots())
    assert nothing is not None
    assert nothing.nodes[0].here


def test_a_share_of_several_machines_has_as_much_of_each() -> None:
    pool = Pool(cluster(2, 4, 4))
    share = pool.take(Slots(gpus=3, nodes=2))
    assert share is not None
    assert (share.words, len(share.gpus)) == (["m1: 3 gpus", "m2: 3 gpus"], 6)
    assert pool.take(Slots(gpus=2, nodes=2)) is None
    pool.give_back(share)
    assert pool.take(Slots(gpus=4, nodes=2)) is not None


def test_what_a_machine_had_goes_with_it_and_another_one_is_new() -> None:
    pool, whole = Pool(cluster(2, 2)), cluster(2, 2)
    assert whole.nodes is not None
    shares = [pool.take(Slots(gpus=2)) for _ in range(2)]
    pool.refresh(Capacity.of(whole.nodes[:1]))
    for share in shares:
        assert share is not None
        pool.give_back(share)
    assert pool.take(Slots(gpus=2)) is not None
    assert pool.take(Slots(gpus=1)) is None
    pool.refresh(cluster(2, 2, 2))
    assert pool.take(Slots(gpus=2, nodes=2)) is not None
    pool.refresh(Capacity.of([]))
    assert pool.on_gpus
    assert pool.take(Slots()) is None, "there is nowhere to go"


def test_whatever_is_taken_and_given_back_nothing_is_lost_or_there_twice() -> None:
    chance = random.Random(7)
    pool, held = Pool(Capacity(tuple(range(8)), 1)), list[Share]()
    for _ in range(500):
        if held and chance.random() < 0.5:
            pool.give_back(held.pop(chance.randrange(len(held))))
        elif (share := pool.take(Slots(gpus=chance.randrange(5)))) is not None:
            held.append(share)
        used = [index for share in held for index in share.gpus]
        assert len(used) == len(set(used))
        assert pool.fits(Slots(gpus=8 - len(used)))
        assert not pool.fits(Slots(gpus=9 - len(used)))
