"""Shares of a machine: never more than there is, each with its own devices, all of them given back."""

from __future__ import annotations

import os
import random
import subprocess
import sys

from agent_sft.sweep.graph import Slots
from agent_sft.sweep.slots import Capacity, Pool, Share


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
