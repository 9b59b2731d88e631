"""What serving a model is asked to do: the options of `agent-sft serve`, each with its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

_NAME = re.compile(r"[A-Za-z0-9][\w.:-]{0,127}")


class ServeRequest(BaseModel):
    """One model to serve, with the adapters beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """A run's directory, a checkpoint, an adapter, any model's folder, or a name on the hub."""

    backend: Literal["auto", "vllm", "llamafactory"] = "auto"
    """What serves; `auto` is vLLM, and LLaMA-Factory's own server where vLLM cannot be installed."""

    lora: dict[str, Path] = Field(default_factory=dict)
    """LoRA adapters to serve beside the model, by the names that requests choose them by."""

    lora_later: int | None = Field(None, gt=0)
    """Allow adapters to be added while it runs, of up to this rank, also where none is given at the start."""

    name: str | None = None
    """What requests call the model; made of its folder's name and its digest when not given, so that two
    checkpoints never share a name."""

    port: int | None = Field(None, gt=0, lt=65536)
    """Port on 127.0.0.1; a free one when not given."""

    gpus: tuple[int, ...] | None = None
    """GPUs to use, by nvidia-smi's numbers; all that are visible when not given."""

    tools: bool = True
    """Refuse a model whose chat template drops tools, or whose calls nothing can read back."""

    capability: str | None = None
    """A system prompt and tools that are put before every conversation: NAME@VERSION, or the folder of one."""

    set: dict[str, Any] = Field(default_factory=dict)
    """Any other settings of the server: vLLM's flags, or LLaMA-Factory's keys."""

    @field_validator("name", "lora")
    @classmethod
    def _plain_names(cls, value: Any) -> Any:
        for name in [value] if isinstance(value, str) else value or ():
            if not _NAME.fullmatch(name):
                raise ValueError(f"'{name}' is not a name: letters, digits and any of . _ - : are allowed")
        return value
