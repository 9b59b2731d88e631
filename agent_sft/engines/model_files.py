"""What lies in a model's folder: a whole model or an adapter, its chat template, and the run that trained it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_sft.engines.cache import cached
from agent_sft.errors import UserError
from agent_sft.files import digest_file, digest_value, parse_yaml, read_json

SMALL_FILES = (
    *("config.json", "generation_config.json", "adapter_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
)
"""Files beside the weights that decide what a model says."""
WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True)
class ModelFiles:
    """A model or adapter as its files describe it."""

    reference: str
    """The folder, or the name on the hub, as an engine takes it."""
    folder: Path
    """Where the small files are; the weights too unless it is a name on the hub."""
    local: bool
    """Whether it is a folder of the user's and not a name on the hub."""
    config: Mapping[str, Any]
    """config.json; empty for an adapter."""
    adapter: Mapping[str, Any] | None
    """adapter_config.json; None for a whole model."""
    settings: Mapping[str, Any]
    """LLaMA-Factory's settings of the run that trained it; empty where there is no record of one."""
    run: Path | None
    """The directory of that run."""
    capability: Mapping[str, Any] = field(default_factory=dict)
    """What stood before every conversation in that run, as its record says; empty where nothing did."""

    @property
    def base(self) -> str | None:
        """The model that an adapter belongs to, a folder or a name on the hub; None for a whole model."""
        if self.adapter is None:
            return None
        made = self.run / "base" if self.run is not None else None
        if made is not None and (made / "config.json").is_file():
            return str(made)  # also where the run's directory was moved
        return str(self.adapter.get("base_model_name_or_path") or "")

    @property
    def rank(self) -> int:
        """The highest rank of an adapter's matrices; 0 for a whole model."""
        if self.adapter is None:
            return 0
        return max([int(self.adapter.get("r", 8)), *map(int, (self.adapter.get("rank_pattern") or {}).values())])

    @property
    def template(self) -> str | None:
        """LLaMA-Factory's template that it was trained with."""
        value = self.settings.get("template")
        return str(value) if value else None

    @property
    def positions(self) -> int | None:
        """The most tokens that the model can tell the places of."""
        value = self._text_config.get("max_position_embeddings")
        return int(value) if value else None

    @property
    def heads(self) -> int | None:
        """Attention heads, which several GPUs share evenly."""
        value = self._text_config.get("num_attention_heads")
        return int(value) if value else None

    @property
    def dtype(self) -> str | None:
        """The type of the weights, such as `bfloat16`."""
        value = self._text_config.get("dtype") or self._text_config.get("torch_dtype")
        return str(value) if value else None

    @property
    def cache_bytes(self) -> int | None:
        """Bytes of keys and values that one token takes, at two bytes a number; None where nothing tells."""
        config = self._text_config
        try:
            heads, hidden, layers = (
                int(config[key]) for key in ("num_attention_heads", "hidden_size", "num_hidden_layers")
            )
        except (KeyError, TypeError):
            return None
        head = int(config.get("head_dim") or hidden // heads)
        return 2 * 2 * layers * head * int(config.get("num_key_value_heads") or heads)

    @property
    def chat_template_file(self) -> Path | None:
        """The file with nothing but the chat template."""
        path = self.folder / "chat_template.jinja"
        return path if path.is_file() else None

    @property
    def chat_template(self) -> str | None:
        """The chat template's text; the one for tools where a model has several."""
        if self.chat_template_file is not None:
            return self.chat_template_file.read_text(encoding="utf-8")
        value = (read_json(self.folder / "tokenizer_config.json") or {}).get("chat_template")
        if isinstance(value, list):
            named = {entry.get("name"): entry.get("template") for entry in value}
            value = named.get("tool_use") or named.get("default")
        return str(value) if value else None

    @property
    def _text_config(self) -> Mapping[str, Any]:
        """The language model's part of the configuration, where images have one of their own."""
        return {**self.config, **(self.config.get("text_config") or {})}

    def digest(self) -> str:
        """Return the digest of configuration, tokenizer, chat template and weights.

        Weights are read once, several files at a time, and known again by size and time of change. For a name on
        the hub the small files and the commit they belong to decide.
        """
        small = {name: digest_file(self.folder / name) for name in SMALL_FILES if (self.folder / name).is_file()}
        if not self.local:
            return digest_value({"files": small, "commit": self.folder.name})
        weights = sorted(path for pattern in WEIGHTS for path in self.folder.glob(pattern))
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            digests = list(pool.map(_weights_digest, weights))
        return digest_value(
            {"files": small, "weights": dict(zip((path.name for path in weights), digests, strict=True))}
        )


def read_model(reference: str, folder: Path, *, local: bool) -> ModelFiles:
    """Return what the files in `folder` say.

    Args:
        reference: the folder or hub name, as the user gave it.
        folder: where the files are.
        local: whether `reference` is a folder.

    Raises:
        UserError: it holds no model.
    """
    run = next((place for place in (folder, folder.absolute().parent) if (place / "run.yaml").is_file()), None)
    config = read_json(folder / "config.json")
    adapter = read_json(folder / "adapter_config.json")
    if not isinstance(config, dict) and not isinstance(adapter, dict):
        begun = run == folder
        raise UserError(
            "the run has no trained model yet"
            if begun
            else "holds no model: neither config.json nor adapter_config.json",
            where=reference,
            fix="run its command again, which goes on" if begun else "give a run's directory, or a model's folder",
        )
    record: Any = parse_yaml((run / "run.yaml").read_text(encoding="utf-8")) if run is not None else None
    settings, capability = (
        (record.get("llamafactory"), record.get("capability")) if isinstance(record, dict) else (None, None)
    )
    return ModelFiles(
        reference=reference,
        folder=folder,
        local=local,
        config=config if isinstance(config, dict) and not isinstance(adapter, dict) else {},
        adapter=adapter if isinstance(adapter, dict) else None,
        settings=settings if isinstance(settings, dict) else {},
        run=run,
        capability=capability if isinstance(capability, dict) else {},
    )


def _weights_digest(path: Path) -> str:
    status = path.stat()
    key = [str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ino]
    return str(cached("weights", key, lambda: digest_file(path)))
