"""Models to start from: a short list of those that fit the GPU that was found, each with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sft.config.tiny import TINY, is_made_here, read_tiny
from agent_sft.engines.environments import engine_python, engine_versions
from agent_sft.engines.llamafactory.facts import DISTRIBUTIONS, load_facts
from agent_sft.engines.llamafactory.memory import GIB, Sharding, estimate_memory
from agent_sft.engines.llamafactory.shape import described_shape, local_folder
from agent_sft.engines.llamafactory.templates import check_template_name, expected_template
from agent_sft.errors import UserError
from agent_sft.runs.devices import Gpu
from agent_sft.wizard.questions import Choice
from agent_sft.wizard.settings import Settings

SHOWN = 3
OTHER = "other"
TINY_TEMPLATE = "qwen"


@dataclass(frozen=True)
class Known:
    """A model of the list."""

    name: str
    template: str
    config: dict[str, Any]
    """What its config.json says of its sizes."""


def _sizes(family: str, hidden: int, layers: int, heads: int, groups: int, width: int, **more: Any) -> dict[str, Any]:
    return {
        "model_type": family,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": width,
        "vocab_size": 151936,
        **more,
    }


_MIXTURE = {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768}

KNOWN = (
    Known(
        "Qwen/Qwen3-30B-A3B-Instruct-2507",
        "qwen3_nothink",
        _sizes("qwen3_moe", 2048, 48, 32, 4, 6144, head_dim=128, **_MIXTURE),
    ),
    Known("OpenPipe/Qwen3-14B-Instruct", "qwen3_nothink", _sizes("qwen3", 5120, 40, 40, 8, 17408, head_dim=128)),
    Known("meta-llama/Llama-3.1-8B-Instruct", "llama3", _sizes("llama", 4096, 32, 32, 8, 14336, vocab_size=128256)),
    Known("Qwen/Qwen2.5-7B-Instruct", "qwen", _sizes("qwen2", 3584, 28, 28, 4, 18944, vocab_size=152064)),
    Known(
        "Qwen/Qwen3-4B-Instruct-2507",
        "qwen3_nothink",
        _sizes("qwen3", 2560, 36, 32, 8, 9728, head_dim=128, tie_word_embeddings=True),
    ),
    Known("Qwen/Qwen2.5-1.5B-Instruct", "qwen", _sizes("qwen2", 1536, 28, 12, 2, 8960, tie_word_embeddings=True)),
    Known("Qwen/Qwen2.5-0.5B-Instruct", "qwen", _sizes("qwen2", 896, 24, 14, 2, 4864, tie_word_embeddings=True)),
)
"""The largest first."""


def needed(model: Known, gpus: int) -> int:
    """Return the bytes that training an adapter of a model with the settings offered takes of each GPU."""
    settings = Settings(epochs=1, warmup_steps=0)
    arguments = {
        "finetuning_type": "lora",
        "lora_rank": settings.lora_rank,
        "bf16": True,
        "enable_liger_kernel": True,
        "per_device_train_batch_size": max(1, settings.batch_size // max(1, gpus)),
        "cutoff_len": settings.cutoff_len,
    }
    estimate = estimate_memory(described_shape(model.config), arguments, Sharding(processes=max(1, gpus)))
    assert estimate is not None
    return estimate.total


def offered(gpus: Sequence[Gpu]) -> list[Choice]:
    """Return the models to choose from: the largest that fit into what is free, `tiny`, and any other."""
    fitting: list[Choice] = []
    free = min((gpu.free_bytes or 0 for gpu in gpus), default=0)
    for model in KNOWN:
        if (bytes_needed := needed(model, len(gpus))) <= free and len(fitting) < SHOWN:
            why = f"an adapter needs about {bytes_needed / GIB:.0f} of {free / GIB:.0f} GiB free"
            fitting.append(Choice(model.name, f"{model.name}: {why}"))
    if not gpus:
        why = "there is no GPU here, and a larger one would take days"
    elif not fitting:
        why = f"nothing larger fits into {free / GIB:.0f} GiB"
    else:
        why = "to see the whole way in a minute"
    tiny = Choice(TINY, f"{TINY}: a small random one, made on the spot; {why}")
    return [*fitting, tiny, Choice(OTHER, "another one: a folder, or a name on the hub")]


def checked_model(given: str) -> str:
    """Return a model that can be trained.

    Raises:
        UserError: it is no folder with a model, no description of a small one, and no name on the hub.
    """
    if is_made_here(given):
        read_tiny(given)
        return given
    if local_folder(given) is not None:
        return given
    if Path(given).exists():
        raise UserError("holds no model (no config.json)", where=given, fix="name the folder of a model")
    if given.count("/") != 1 or given.startswith((".", "/", "~")) or " " in given or not all(given.split("/")):
        fix = "give a folder with config.json, OWNER/NAME on the hub, tiny, or a YAML file such as configs/tiny/*.yaml"
        raise UserError(f"there is no model '{given}'", fix=fix)
    return given


def derived_template(model: str) -> str | None:
    """Return the chat template that belongs to a model; None where nothing tells."""
    if is_made_here(model):
        return TINY_TEMPLATE
    known = next((one.template for one in KNOWN if one.name == model), None)
    if known is not None:
        return known
    python = engine_python("train")
    return expected_template(model, load_facts(python, engine_versions(python, DISTRIBUTIONS)))


def checked_template(given: str) -> str:
    """Return a template that LLaMA-Factory has.

    Raises:
        UserError: it has none of the name.
    """
    python = engine_python("train")
    check_template_name(given, load_facts(python, engine_versions(python, DISTRIBUTIONS)))
    return given
