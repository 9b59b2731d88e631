"""A model that answers at an address."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Backend = Literal["vllm", "llamafactory", "address"]


@dataclass(frozen=True)
class ServedModel:
    """How a served model is reached, and what it is."""

    name: str
    """By which requests ask for it."""
    url: str
    """Of its OpenAI-compatible interface, such as `http://127.0.0.1:8000/v1`."""
    api_key: str = field(repr=False)
    backend: Backend
    template: str | None
    tools: bool
    """Whether tool calls reach the prompt and are read from the answer."""
    max_model_len: int | None
    """Tokens of prompt and answer together; None where it is not known."""
    path: Path | None
    """Folder of the model, or of the adapter; None for one that is known by its address alone."""
    digest: str | None
    """By which its weights are told from others of the same name."""
    adapters: tuple[str, ...] = ()
    """Names of the adapters that are served beside it."""
