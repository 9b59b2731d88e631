"""Which models can be served by one server, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent_sft.config.sft import SFTConfig
from agent_sft.config.tiny import is_made_here
from agent_sft.engines.llamafactory.arguments import merge_user_yaml, option_arguments, read_user_yaml
from agent_sft.engines.model_files import read_model
from agent_sft.files import digest_file, digest_value
from agent_sft.sweep.graph import Variant
from agent_sft.sweep.patterns import plain

_PASSING = ("_name_or_path", "torch_dtype", "dtype", "transformers_version", "use_cache")
"""Keys of config.json that do not say what a model is like."""


def settings_of(sft: SFTConfig) -> dict[str, Any]:
    """Return LLaMA-Factory's settings that a training's options ask for; the precision is left to the machine."""
    theirs = read_user_yaml(sft.config) if sft.config else {}
    return merge_user_yaml(sft, option_arguments(sft, precision=None), theirs)[0]


class ServerNames:
    """Gives models that may share a server the same name."""

    def __init__(self, *, share: bool) -> None:
        """Make one that knows no server yet.

        Args:
            share: whether whole models may share one; adapters of one base always do.
        """
        self._share = share
        self._names: dict[str, str] = {}
        self._known: dict[str, tuple[str, Any, str]] = {}

    def name(self, variant: Variant, checkpoint: str, serve: dict[str, Any]) -> str:
        """Return the name of the server for one model of a variant.

        Args:
            variant: trained here, or finished.
            checkpoint: which of its models.
            serve: options of the server.
        """
        if variant.name not in self._known:
            self._known[variant.name] = _trained(variant) if variant.sft is not None else _finished(variant)
        kind, what, called = self._known[variant.name]
        if kind == "full" and not self._share:
            what, called = f"{variant.name}/{checkpoint}", f"{variant.name}-{checkpoint}"
        key = digest_value([kind, what, serve])
        if key not in self._names:
            taken = set(self._names.values())
            names = (called if number == 1 else f"{called}-{number}" for number in range(1, len(taken) + 2))
            self._names[key] = next(name for name in names if name not in taken)
        return self._names[key]


def _trained(variant: Variant) -> tuple[str, Any, str]:
    assert variant.sft is not None
    settings = settings_of(variant.sft)
    model = str(settings["model_name_or_path"])
    kind = "lora" if settings.get("finetuning_type", "lora") == "lora" else "full"
    if is_made_here(model):
        # Its tokenizer is made of the variant's own data.
        return kind, [variant.model], variant.name
    what = [_same_place(model), settings.get("template")]
    return kind, what, plain(Path(model).name) if kind == "full" else f"{plain(Path(model).name)}-adapters"


def _finished(variant: Variant) -> tuple[str, Any, str]:
    folder = Path(variant.model)
    if not folder.is_dir():
        return "full", [variant.model], variant.name
    model = read_model(variant.model, folder, local=True)
    if model.base is not None:
        return "lora", [_same_place(model.base), model.template], f"{plain(Path(model.base).name)}-adapters"
    tokenizer = folder / "tokenizer.json"
    like = {key: value for key, value in model.config.items() if key not in _PASSING}
    digest = digest_file(tokenizer) if tokenizer.is_file() else None
    return "full", [like, digest, model.chat_template], variant.name


def _same_place(model: str) -> str:
    return str(Path(model).resolve()) if Path(model).exists() or model.startswith(("/", ".")) else model
