"""A checkpoint is gone on from only if it is whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent_sft.engines.llamafactory.checkpoints import find_checkpoints, weights_fault


def safetensors(path: Path, *, values: int = 4) -> None:
    """Write a safetensors file with one float32 tensor of `values` numbers, as the format describes."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4 * values))


def checkpoint(folder: Path, step: int, world_size: int = 1, *, deepspeed: bool = False) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    safetensors(path / "model.safetensors")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    for name in [f"rng_state_{rank}.pth" for rank in range(world_size)] if world_size > 1 else ["rng_state.pth"]:
        (path / name).write_bytes(b"x")
    if deepspeed:
        (path / "latest").write_text(f"global_step{step}")
        (path / f"global_step{step}").mkdir()
        for rank in range(world_size):
            (path / f"global_step{step}" / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").write_bytes(b"x")
    else:
        (path / "optimizer.pt").write_bytes(b"x")
        (path / "scheduler.pt").write_bytes(b"x")
    return path


def missing(folder: Path, world_size: int = 1) -> dict[int, str | None]:
    return {found.step: found.missing for found in find_checkpoints(folder, world_size)}


def test_whole_checkpoints_by_rising_step(tmp_path: Path) -> None:
    for step in (100, 9, 20):
        checkpoint(tmp_path, step)
    assert list(missing(tmp_path)) == [9, 20, 100]
    assert set(missing(tmp_path).values()) == {None}


def test_an_empty_or_absent_folder_has_none(tmp_path: Path) -> None:
    assert missing(tmp_path) == missing(tmp_path / "absent") == {}


@pytest.mark.parametrize("name", ["trainer_state.json", "rng_state.pth", "optimizer.pt", "scheduler.pt"])
def test_each_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (checkpoint(tmp_path, 5) / name).unlink()
    assert missing(tmp_path) == {5: name}


def test_a_state_cut_short_is_not_whole(tmp_path: Path) -> None:
    (checkpoint(tmp_path, 5) / "trainer_state.json").write_text('{"global_st')
    assert missing(tmp_path) == {5: "trainer_state.json"}


def test_weights_cut_short_are_not_whole(tmp_path: Path) -> None:
    weights = checkpoint(tmp_path, 5) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert missing(tmp_path) == {5: "model.safetensors"}


def test_every_shard_of_the_index_must_be_there(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 5)
    (path / "model.safetensors").unlink()
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    safetensors(path / shards[0])
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert missing(tmp_path) == {5: shards[1]}
    safetensors(path / shards[1])
    assert missing(tmp_path) == {5: None}


def test_every_process_keeps_its_random_state(tmp_path: Path) -> None:
    (checkpoint(tmp_path, 5, 2) / "rng_state_1.pth").unlink()
    assert missing(tmp_path, 2) == {5: "rng_state_1.pth"}


def test_deepspeed_keeps_an_optimizer_state_for_each_process(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 5, 2, deepspeed=True)
    assert missing(tmp_path, 2) == {5: None}
    next((path / "global_step5").glob("*rank_1*")).unlink()
    assert missing(tmp_path, 2) == {5: "1 of 2 optimizer states in global_step5"}


def test_deepspeed_weights_may_be_left_ungathered(tmp_path: Path) -> None:
    (checkpoint(tmp_path, 5, deepspeed=True) / "model.safetensors").unlink()
    assert missing(tmp_path) == {5: None}


def test_a_trained_model_needs_its_weights(tmp_path: Path) -> None:
    assert weights_fault(tmp_path) == "the weights"
    safetensors(tmp_path / "adapter_model.safetensors")
    assert weights_fault(tmp_path) is None
    (tmp_path / "adapter_model.safetensors").write_bytes(b"\x00" * 4)
    assert weights_fault(tmp_path) == "adapter_model.safetensors"
