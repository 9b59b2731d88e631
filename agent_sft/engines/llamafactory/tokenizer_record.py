"""Where a tokenizer is recorded as LLaMA-Factory uses it, so that counting starts neither that nor transformers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_sft.engines.cache import cache_path
from agent_sft.engines.llamafactory.shape import local_folder
from agent_sft.files import digest_file

TOKENIZER_KEYS = ("split_special_tokens", "template", "use_fast_tokenizer")
"""Settings that bear on the tokenizer: a template adds tokens to it."""
OUTSIDE_KEYS = ("add_special_tokens", "add_tokens", "new_special_tokens_config", "trust_remote_code")
"""Settings that make a tokenizer of more than the model's files."""
OTHER_HUBS = ("USE_MODELSCOPE_HUB", "USE_OPENMIND_HUB")
SUFFIXES = (".bpe", ".jinja", ".json", ".model", ".tiktoken", ".txt", ".vocab")
"""Of files that a tokenizer may be read from."""


def record_path(python: Path, settings: Mapping[str, Any]) -> Path | None:
    """Return where the tokenizer of these settings is recorded, whether it is yet or not.

    The name covers the content of the tokenizer's files. None where these do not decide alone: code of the
    model's own, tokens that are added, a model that is not on this machine yet.

    Args:
        python: the train environment's; the record says which versions it is of.
        settings: LLaMA-Factory's.
    """
    model = str(settings["model_name_or_path"])
    revision = settings.get("model_revision") or "main"
    if any(settings.get(key) for key in OUTSIDE_KEYS) or settings.get("cache_dir") or revision != "main":
        return None
    if not Path(model).is_dir() and any(os.environ.get(name) for name in OTHER_HUBS):
        return None
    folder = local_folder(model)
    if folder is None:
        return None
    files = {path.name: digest_file(path) for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file()}
    chosen = {key: settings.get(key) for key in TOKENIZER_KEYS}
    return cache_path("tokenizers", {"python": str(python), "files": files, "settings": chosen, "layout": 1})
