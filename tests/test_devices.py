"""What `agent_sft.runs.devices` tells, asked through a stand-in nvidia-smi that speaks the real tool's CSV."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from agent_sft.runs.devices import (
    MIB,
    free_memory,
    gpu_processes,
    gpu_variables,
    visible_gpus,
    wait_for_memory,
)

FIRST = "GPU-8f6d1c2e-1111-2222-3333-444455556666"
SECOND = "GPU-0badcafe-1111-2222-3333-444455556666"
TWO_CARDS = (
    f"0, {FIRST}, NVIDIA A100-SXM4-40GB, 40960, 39000, 8.0\n1, {SECOND}, NVIDIA A100-SXM4-40GB, 40960, 1024, 8.0\n"
)


def install_nvidia_smi(folder: Path, *, gpus: str, processes: str = "", status: int = 0) -> None:
    """Put an nvidia-smi into `folder` that answers the two queries with the given tables."""
    tool = folder / "nvidia-smi"
    (folder / "gpus.csv").write_text(gpus)
    (folder / "processes.csv").write_text(processes)
    tool.write_text(
        f"""#!/bin/sh
here=$(dirname "$0")
[ {status} = 0 ] || {{ echo "NVIDIA-SMI has failed"; exit {status}; }}
case "$*" in
  *--query-gpu=index,uuid,name,memory.total,memory.free,compute_cap*noheader,nounits*) cat "$here/gpus.csv" ;;
  *--query-compute-apps=gpu_uuid,pid,used_memory*noheader,nounits*) cat "$here/processes.csv" ;;
  *) echo "unknown query: $*"; exit 2 ;;
esac
"""
    )
    tool.chmod(0o755)


@pytest.fixture
def two_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "a tool's folder"
    folder.mkdir()
    install_nvidia_smi(folder, gpus=TWO_CARDS, processes=f"{SECOND}, {os.getpid()}, 39000\n{SECOND}, 4194999, [N/A]\n")
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return folder


def test_every_card_is_told_with_its_memory_in_bytes(two_cards: Path) -> None:
    first, second = visible_gpus()
    assert (first.index, first.name, first.uuid) == (0, "NVIDIA A100-SXM4-40GB", FIRST)
    assert (first.total_bytes, first.free_bytes) == (40960 * MIB, 39000 * MIB)
    assert second.free_bytes == 1024 * MIB
    assert second.compute_capability == 8.0


@pytest.mark.parametrize(
    ("selection", "indices"),
    [
        ("1", [1]),
        ("1,0", [1, 0]),
        (" 0 , 1 ", [0, 1]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1,7,0", [1]),
        ("0,0", []),
        (FIRST, [0]),
        ("GPU-0bad", [1]),
        ("GPU-", []),
    ],
)
def test_cuda_visible_devices_selects_as_cuda_does(two_cards: Path, selection: str, indices: list[int]) -> None:
    assert [gpu.index for gpu in visible_gpus({"CUDA_VISIBLE_DEVICES": selection})] == indices


def test_a_slice_of_a_card_counts_but_its_memory_is_not_invented(two_cards: Path) -> None:
    (gpu,) = visible_gpus({"CUDA_VISIBLE_DEVICES": "MIG-7d5e3f00-0000-0000-0000-000000000000"})
    assert gpu.total_bytes is None
    assert "A100" in gpu.name


def test_the_processes_that_hold_memory_are_named(two_cards: Path) -> None:
    processes = gpu_processes()
    assert set(processes) == {SECOND}
    ours, gone = processes[SECOND]
    assert ours.pid == os.getpid()
    assert ours.used_bytes == 39000 * MIB
    assert "python" in ours.owner or "pytest" in ours.owner
    assert (gone.owner, gone.used_bytes) == ("unknown", None)


def test_memory_that_the_driver_does_not_tell_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, gpus="0, GPU-1, NVIDIA GB10, [N/A], [N/A], 12.1\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (gpu,) = visible_gpus()
    assert (gpu.total_bytes, gpu.free_bytes, gpu.compute_capability) == (None, None, 12.1)


def test_a_tool_without_a_driver_means_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, gpus=TWO_CARDS, status=9)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert visible_gpus() == ()
    assert gpu_processes() == {}


def test_no_tool_means_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("agent_sft.runs.devices.WSL_TOOL", tmp_path / "none")
    assert visible_gpus({}) == ()
    assert gpu_processes() == {}


def test_memory_that_a_driver_frees_late_is_waited_for(two_cards: Path) -> None:
    before = free_memory(visible_gpus())
    assert before == {FIRST: 39000 * MIB, SECOND: 1024 * MIB}
    install_nvidia_smi(two_cards, gpus=TWO_CARDS.replace(" 39000,", " 2000,"))
    freed = threading.Timer(0.3, lambda: (two_cards / "gpus.csv").write_text(TWO_CARDS))
    freed.start()
    assert wait_for_memory(before) == ()
    assert not freed.is_alive()


def test_memory_that_stays_taken_is_told(two_cards: Path) -> None:
    before = free_memory(visible_gpus())
    install_nvidia_smi(two_cards, gpus=TWO_CARDS.replace(" 39000,", " 2000,"))
    assert [gpu.index for gpu in wait_for_memory(before, seconds=0)] == [0]


def test_memory_that_others_use_meanwhile_is_not_waited_for(two_cards: Path) -> None:
    before = free_memory(visible_gpus())
    install_nvidia_smi(two_cards, gpus=TWO_CARDS.replace(" 39000,", " 2000,"), processes=f"{FIRST}, 4194999, 37000\n")
    assert wait_for_memory(before) == ()


def test_without_gpus_there_is_nothing_to_wait_for() -> None:
    assert wait_for_memory(free_memory(())) == ()


def test_chosen_gpus_are_nvidia_smis_numbers() -> None:
    assert gpu_variables([1, 3]) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1,3"}
