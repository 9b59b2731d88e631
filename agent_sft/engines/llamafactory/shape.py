"""The size and shape of a model, from its config.json and the headers of its weights."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sft.engines.environments import call_inside
from agent_sft.errors import WorkFailed
from agent_sft.files import read_json

FETCH = Path(__file__).parent / "inside" / "fetch_config.py"
FETCH_SECONDS = 4.0

_FAMILIES = {
    # model_type: (biases on q, k, v; biases on the attention's output; norms on q and k; norms a layer)
    "llama": (False, False, False, 2),
    "mistral": (False, False, False, 2),
    "mixtral": (False, False, False, 2),
    "qwen2": (True, False, False, 2),
    "qwen2_moe": (True, False, False, 2),
    "qwen3": (False, False, True, 2),
    "qwen3_moe": (False, False, True, 2),
    "phi3": (False, False, False, 2),
    "gemma": (False, False, False, 2),
    "gemma2": (False, False, False, 4),
}
_TIED_UNLESS_SAID = frozenset({"gemma", "gemma2"})


@dataclass(frozen=True)
class ModelShape:
    """What a memory estimate needs to know of a decoder-only transformer."""

    parameters: int
    """All of them, a tied embedding once."""
    largest_layer: int
    """Parameters of the largest single module, most often the embedding: what ZeRO-3 gathers at once."""
    layers: int
    hidden: int
    intermediate: int
    """Width of the feed-forward part that one token goes through (of a mixture: its chosen experts together)."""
    heads: int
    attention_width: int
    """Width of the queries: heads x size of a head."""
    key_value_width: int
    """Width of the keys, and of the values."""
    vocabulary: int
    linear_sizes: tuple[tuple[int, int], ...]
    """(inputs, outputs) of every linear layer of one transformer layer, experts of a mixture included."""

    def lora_parameters(self, rank: int) -> int:
        """Parameters of a LoRA adapter on every linear layer: two matrices, inputs x rank and rank x outputs."""
        return self.layers * sum(rank * (inputs + outputs) for inputs, outputs in self.linear_sizes)


def model_shape(model: str, python: Path | None = None) -> ModelShape | None:
    """Return the shape of a model, None where it cannot be known.

    Args:
        model: a folder, or a hub name; of the latter config.json is looked up in the hub's local cache.
        python: the train environment's, to fetch a config.json that is not in the cache; never when None.
    """
    folder = local_folder(model)
    if folder is not None:
        config = read_json(folder / "config.json")
        return _shape(config, counted_parameters(folder)) if isinstance(config, dict) else None
    if python is None or not _is_hub_name(model):
        return None
    try:
        answer = call_inside(python, FETCH, model, timeout=FETCH_SECONDS)
    except WorkFailed:
        return None  # no network, no such model, or no right to see it: unknown, and said so
    return _shape(answer, None)


def described_shape(config: dict[str, Any]) -> ModelShape:
    """Return the shape of a model whose config.json is known, with its `model_type` among those described here."""
    shape = _shape(config, None)
    assert shape is not None, config
    return shape


def local_folder(model: str) -> Path | None:
    """Return the folder that holds a model: itself, or the hub cache's newest snapshot; None if neither is there."""
    if (Path(model) / "config.json").is_file():
        return Path(model)
    if not _is_hub_name(model):
        return None
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--{model.replace('/', '--')}"
    try:
        revision = (cache / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    snapshot = cache / "snapshots" / revision
    return snapshot if (snapshot / "config.json").is_file() else None


def counted_parameters(folder: Path) -> int | None:
    """Count the parameters in a folder's safetensors files by their headers; None unless all files are there.

    A safetensors file begins with the length of its header (8 bytes, little endian), then the header, JSON.
    """
    index = read_json(folder / "model.safetensors.index.json")
    names = set(index["weight_map"].values()) if isinstance(index, dict) else {"model.safetensors"}
    total = 0
    try:
        for name in names:
            with (folder / name).open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            for tensor in header.values():
                count = 1
                for size in tensor["shape"]:
                    count *= size
                total += count
    except (OSError, struct.error, ValueError, KeyError, MemoryError, OverflowError):
        return None
    return total


def _is_hub_name(model: str) -> bool:
    return model.count("/") == 1 and not model.startswith((".", "/", "~"))


def _shape(config: dict[str, Any], counted: int | None) -> ModelShape | None:
    """Work the shape out; None for architectures whose layers this does not describe."""
    family = _FAMILIES.get(str(config.get("model_type")))
    try:
        hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        heads, vocabulary = int(config["num_attention_heads"]), int(config["vocab_size"])
        if family is None or min(hidden, layers, heads, vocabulary) < 1:
            return None
        key_value_heads = int(config.get("num_key_value_heads") or heads)
        head = int(config.get("head_dim") or hidden // heads)
        attention, key_value = heads * head, key_value_heads * head
        projections = [(hidden, attention), (hidden, key_value), (hidden, key_value), (attention, hidden)]
        feed_forward, width, router = _feed_forward(config, hidden)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    query_bias, output_bias, head_norms, norms = family
    both = bool(config.get("attention_bias"))
    biases = (attention + 2 * key_value) * (query_bias or both) + hidden * (output_bias or both)
    linear = [*projections, *feed_forward]
    per_layer = sum(inputs * outputs for inputs, outputs in linear) + router
    per_layer += biases + norms * hidden + 2 * head * head_norms
    tied = bool(config.get("tie_word_embeddings", config.get("model_type") in _TIED_UNLESS_SAID))
    embedding = vocabulary * hidden
    return ModelShape(
        parameters=counted or layers * per_layer + embedding * (1 if tied else 2) + hidden,
        largest_layer=max(embedding, *(inputs * outputs for inputs, outputs in linear)),
        layers=layers,
        hidden=hidden,
        intermediate=width,
        heads=heads,
        attention_width=attention,
        key_value_width=key_value,
        vocabulary=vocabulary,
        linear_sizes=tuple(linear),
    )


def _feed_forward(config: dict[str, Any], hidden: int) -> tuple[list[tuple[int, int]], int, int]:
    """Return the linear layers of the feed-forward part, the width a token uses, and the router's parameters."""

    def gated(width: int) -> list[tuple[int, int]]:
        return [(hidden, width), (hidden, width), (width, hidden)]

    experts = int(config.get("num_local_experts") or config.get("num_experts") or 0)
    if not experts:
        width = int(config["intermediate_size"])
        return gated(width), width, 0
    width = int(config.get("moe_intermediate_size") or config["intermediate_size"])
    chosen = int(config.get("num_experts_per_tok") or 1)
    layers, used, router = gated(width) * experts, width * chosen, hidden * experts
    if shared := int(config.get("shared_expert_intermediate_size") or 0):
        layers, used, router = layers + gated(shared), used + shared, router + hidden
    return layers, used, router
