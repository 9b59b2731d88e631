"""Which checkpoints of a training are complete, and which training is finished."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agent_sft.files import read_json

WEIGHTS = ("model.safetensors", "adapter_model.safetensors", "pytorch_model.bin", "adapter_model.bin")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class Checkpoint:
    """A folder `checkpoint-STEP`."""

    path: Path
    step: int
    missing: str | None
    """What a complete checkpoint would have and this one has not; None when it is complete."""


def find_checkpoints(folder: Path, world_size: int) -> list[Checkpoint]:
    """Return the checkpoints in `folder`, by rising step, each judged complete or not.

    Args:
        folder: the trainer's output directory.
        world_size: processes that train; each keeps a random state, and a part of the optimizer under ZeRO.
    """
    found = []
    for path in folder.glob("checkpoint-*") if folder.is_dir() else ():
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and path.is_dir():
            found.append(Checkpoint(path, int(match[1]), next(_missing(path, world_size), None)))
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def _missing(path: Path, world_size: int) -> Iterator[str]:
    state = read_json(path / "trainer_state.json")
    if not isinstance(state, dict) or "global_step" not in state:
        yield "trainer_state.json"
    states = [f"rng_state_{rank}.pth" for rank in range(world_size)] if world_size > 1 else ["rng_state.pth"]
    yield from (name for name in states if not (path / name).is_file())
    if (path / "latest").is_file():
        yield from _missing_deepspeed(path, world_size)
    else:
        yield from (name for name in ("optimizer.pt", "scheduler.pt") if not (path / name).is_file())
        if (fault := weights_fault(path)) is not None:
            yield fault


def _missing_deepspeed(path: Path, world_size: int) -> Iterator[str]:
    tag = (path / "latest").read_text(errors="replace").strip()
    shards = len(list((path / tag).glob("*_optim_states.pt"))) if tag else 0
    if shards < world_size:
        yield f"{world_size - shards} of {world_size} optimizer states in {tag or 'the folder that latest names'}"
    # Without stage3_gather_16bit_weights_on_model_save the weights are in DeepSpeed's own files alone.
    if any((path / name).is_file() for name in (*WEIGHTS, *INDEXES)) and (fault := weights_fault(path)):
        yield fault


def weights_fault(folder: Path) -> str | None:
    """Tell what keeps the weights in `folder` from loading, or None when they are whole.

    Safetensors files are checked against their own header: the length of the data it describes must be
    the length that is there.
    """
    for name in INDEXES:
        if (folder / name).is_file():
            index = read_json(folder / name)
            if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict):
                return name
            shards = sorted(set(index["weight_map"].values()))
            return next((shard for shard in shards if not _whole(folder / shard)), None)
    present = [name for name in WEIGHTS if (folder / name).is_file()]
    if not present:
        return "the weights"
    return next((name for name in present if not _whole(folder / name)), None)


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor in the safetensors files of a folder."""
    headers = [_safetensors_header(path)[1] for path in sorted(folder.glob("*.safetensors"))]
    return {name: tuple(entry["shape"]) for header in headers for name, entry in header.items()}


def _whole(path: Path) -> bool:
    try:
        size = path.stat().st_size
        if path.suffix != ".safetensors":
            return size > 0
        end, header = _safetensors_header(path)
    except (OSError, ValueError):
        return False
    return end + max((entry["data_offsets"][1] for entry in header.values()), default=0) == size


def _safetensors_header(path: Path) -> tuple[int, dict[str, Any]]:
    """Return where the data begins and the header's tensors, as the format describes them."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= 100_000_000:
            raise ValueError("no safetensors header")
        header: dict[str, Any] = orjson.loads(stream.read(length))
    header.pop("__metadata__", None)
    return 8 + length, header
