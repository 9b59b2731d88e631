"""What everybody needs to know to talk to a model that is being served, whatever serves it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Backend = Literal["vllm", "llamafactory", "address"]


@dataclass(frozen=True)
class ServedModel:
    """One model behind an OpenAI-compatible address. Several may share the address: a base and its adapters."""

    name: str
    """What a request puts into `model`."""
    url: str
    """Where requests go, such as `http://127.0.0.1:8123/v1`."""
    api_key: str = field(repr=False)
    backend: Backend
    """`address`: somebody else's server, of which only this is known."""
    template: str | None
    """LLaMA-Factory's template that it was trained with; None where nothing tells."""
    tools: bool
    """Whether tools that a request carries reach the prompt and calls come back as `tool_calls`."""
    max_model_len: int | None
    """Tokens of prompt and answer together; None where nothing tells."""
    path: Path | None
    """The folder it was loaded from; None for a hub name or an address."""
    digest: str | None
    """Of its configuration, tokenizer and weights: the identity of what is served."""
    adapters: tuple[str, ...] = ()
    """Names of all LoRA adapters at this address."""
    capability: str | None = None
    """Digest of what the server puts before every conversation; None where it puts nothing."""
    base: str | None = None
    """Name of the model without an adapter at this address, where this one is an adapter of it."""


def known_by_address(name: str, url: str, api_key: str) -> ServedModel:
    """Return a model behind an address of which nothing else is known."""
    return ServedModel(
        name=name,
        url=url,
        api_key=api_key,
        backend="address",
        template=None,
        tools=True,
        max_model_len=None,
        path=None,
        digest=None,
    )
