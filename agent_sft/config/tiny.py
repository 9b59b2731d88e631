"""A model that is made on the spot from the data: `--model tiny`, or a YAML file that says what it is like."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agent_sft.config.yaml_files import read_mapping, validated

TINY = "tiny"
"""The `--model` that is made with every size at its default, for trying things out without a GPU."""


class TinyModel(BaseModel):
    """A random Qwen2 with a tokenizer of its own. Sizes that are not given are the tiny ones, some 0.5 M parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int = Field(2, gt=0)
    """Transformer layers."""

    hidden: int = Field(128, gt=0)
    """Width of the residual stream."""

    intermediate: int = Field(288, gt=0)
    """Width of the feed-forward layers."""

    heads: int = Field(4, gt=0)
    """Attention heads; they share `hidden` evenly, each an even number."""

    key_value_heads: int = Field(2, gt=0)
    """Heads of keys and values; they share `heads` evenly."""

    tokens: int = Field(1536, ge=300)
    """Tokens of the tokenizer; fewer where the data has too few distinct words."""

    vocabulary: int = Field(0, ge=0)
    """Rows of the embedding, where more are wanted than the tokenizer has tokens."""

    weight_scale: float = Field(0.02, gt=0)
    """Standard deviation of the random matrices; transformers' is 0.02, a narrow model learns sooner from a larger."""

    rope_theta: float = Field(1000000.0, gt=0)
    """Base of the rotary embedding's wave lengths; smaller ones suit short conversations."""

    one_token: tuple[str, ...] = ()
    """Texts that are one token each, wherever they stand, such as identifiers: a small model can copy those."""

    shared_as_one: bool = False
    """Make the policy and the tools that all conversations share one token each: what is always the same teaches
    nothing, and as a few tokens it costs nothing."""

    @model_validator(mode="after")
    def _even_shares(self) -> TinyModel:
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of twice the heads ({self.heads})")
        if self.heads % self.key_value_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of key_value_heads ({self.key_value_heads})")
        return self


def is_made_here(model: str) -> bool:
    """Whether a `--model` names one that is made on the spot."""
    return model == TINY or Path(model).suffix in (".yaml", ".yml")


def read_tiny(model: str) -> TinyModel:
    """Return what a `--model` that is made on the spot is like.

    Raises:
        UserError: the file is missing, no YAML, or a key or value in it is wrong.
    """
    if model == TINY:
        return TinyModel()
    path = Path(model)
    content = read_mapping(path, "the sizes of a model that is made on the spot, such as `layers: 3`")
    return validated(path, content, TinyModel)
